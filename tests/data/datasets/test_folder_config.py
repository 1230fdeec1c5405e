from __future__ import annotations

import numpy as np
import pytest
from folder_data import COLOURS, RED_GREEN_BLUE, fault, labels, png, prepared, write_images

from rc2l_bench.data import catalog
from rc2l_bench.errors import BenchError


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch):
    """Ten images with masks, in a checkout that is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    return tmp_path


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "data" / "raw" / "mine"


def test_masks_of_0_and_255_are_refused_with_what_to_write(raw, checkout):
    """All that is not ignored is background: every network would be right, at 100 per cent."""
    for index in range(10):
        (checkout / "masks" / f"p{index}.png").write_bytes(png(np.uint8(255) * (labels(index) == 2)))
    dataset = prepared(raw, classes=["background", "lesion"])
    with pytest.raises(BenchError) as caught:
        catalog.make(dataset, raw)
    assert "no mask in train has a pixel of class 1, 'lesion'; labels that they have: 0, 255" in str(caught.value)
    assert "`values: {0: background, 255: lesion}`" in str(caught.value)
    dataset = prepared(raw, classes=None, values={0: "background", 255: "lesion"})
    made = catalog.make(dataset, raw)
    assert sum(row.ignored for row in made.rows) == 0
    assert sum(row.pixels[1] for row in made.rows) == sum(int((labels(index) == 2).sum()) for index in range(10))


def test_another_value_than_its_index_is_asked_for(raw, checkout):
    dataset = prepared(raw, classes=["a", "b", "c", "d"])
    with pytest.raises(BenchError, match=r"class 3, 'd'; .*say in datasets/mine\.yaml which value or colour it has"):
        catalog.make(dataset, raw)
    assert catalog.make(prepared(raw, classes=["a", "b", "c", "d"], rare_classes=["d"]), raw).rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": []}, "classes: the list is empty"),
        ({"classes": ["a", "b", "a"]}, "'a' is there twice"),
        ({"classes": ["a", " "]}, "class 1 has no readable name"),
        ({"classes": [str(index) for index in range(256)]}, "more than the 255"),
        ({"klasses": ["a"]}, "klasses: unknown key; did you mean 'classes'"),
        ({"images": None}, "images: Field required"),
        ({"images": "fotos"}, "fotos: no such folder"),
        ({"images": "photos/*.jpg"}, "no .png or .jpg or .jpeg files match 'photos/*.jpg'"),
        ({"images": "pho*/x.png"}, "needs exactly one *"),
        ({"shares": None}, "either shares"),
        ({"lists": {"val": "val.txt"}}, "either shares"),
        ({"shares": {"val": 0.0, "test": 0.1, "seed": 0}}, "val must be above 0"),
        ({"shares": {"val": 0.9, "test": 0.1, "seed": 0}}, "val + test below 1"),
        ({"shares": {"val": -1, "test": 0.1, "seed": 0}}, "shares.val"),
        (
            {"shares": {"val": 0.96, "test": 0.0, "seed": 0}},
            "val, test and train need more images with a mask than there are",
        ),
        ({"shares": None, "lists": {"val": "val.txt"}}, "val.txt: cannot be read"),
        ({"colours": COLOURS[:2]}, "2 colours for 3 classes"),
        ({"colours": [[300, 0, 0], *COLOURS[1:]]}, "colours.0.0"),
        ({"masks_hold": "colours"}, "needs the colours"),
        ({"masks_hold": "colours", "colours": [*COLOURS[:2], COLOURS[0]]}, "[255, 0, 0] is there twice"),
        ({"ignore": [2]}, "2 is a class"),
        ({"canvas": [1, 10**9]}, "canvas"),
    ],
)
def test_a_wrong_description_is_wrong_use_in_one_line_that_names_the_file(raw, changes, message):
    found = fault(raw, **changes)
    assert found.startswith("datasets/mine.yaml: ")
    assert message in found
    assert not raw.exists()


def test_a_colour_of_no_class_is_named_with_its_count(raw, checkout):
    for index in range(10):
        (checkout / "masks" / f"p{index}.png").write_bytes(png(RED_GREEN_BLUE[labels(index)]))
    strange = RED_GREEN_BLUE[labels(6)]
    strange[0, :5] = (1, 2, 3)
    (checkout / "masks" / "p6.png").write_bytes(png(strange))
    found = fault(raw, masks_hold="colours", colours=COLOURS)
    assert "masks/p6.png: the colour [1, 2, 3] (5 pixels) belongs to no class" in found
