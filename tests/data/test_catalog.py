"""The door: what is counted, and one line for everything that must not come in."""

from __future__ import annotations

import hashlib
import io
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.base import Dataset, Sample
from rc2l_bench.data.decode import decode_mask, encode_image, encode_mask
from rc2l_bench.errors import BenchError

ROOT = Path(__file__).parents[2]


def sample(identity: str, part: str = "train", height: int = 6, width: int = 8, label: int | None = 1) -> Sample:
    image = encode_image(np.full((height, width, 3), len(identity), np.uint8))
    mask = None if label is None else encode_mask(np.full((height, width), label, np.uint8))
    return Sample(id=identity, part=part, image=image, suffix="png", mask=mask)


class Given(Dataset):
    """Whatever samples a test wants."""

    name = "given"
    classes = ("sky", 'a, "quoted" one')
    palette = ((0, 0, 0), (1, 1, 1))
    canvas = (8, 8)

    def __init__(self, *samples: Sample, rare_classes: Sequence[str] = classes) -> None:
        self.given = samples
        self.rare_classes = rare_classes

    def prepare(self, raw):
        """Nothing to do."""

    def samples(self, raw, part, only=None):  # noqa: ARG002
        yield from (one for one in self.given if one.part == part)


GOOD = (sample("a"), sample("b", label=0), sample("c", label=255), sample("u", label=None), sample("v", "val"))


def fault(*samples: Sample) -> str:
    return refusal(Given(*samples))


def refusal(dataset: Dataset) -> str:
    with pytest.raises(BenchError) as caught:
        catalog.make(dataset, Path())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_says_what_a_sample_is():
    made = catalog.make(Given(*GOOD), Path())
    row = made.of("train")[0]
    assert (row.id, row.part, row.height, row.width, row.labelled) == ("a", "train", 6, 8, True)
    assert row.image_sha256 == hashlib.sha256(GOOD[0].image).hexdigest()
    assert (row.pixels, row.ignored) == ((0, 48), 0)


def test_labels_are_counted_by_class_and_ignored_pixels_apart():
    mask = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    image = encode_image(np.zeros((2, 3, 3), np.uint8))
    one = Sample(id="a", part="train", image=image, suffix="png", mask=encode_mask(mask))
    row = catalog.make(Given(one, GOOD[-1]), Path()).of("train")[0]
    assert (row.pixels, row.ignored) == ((2, 3), 1)


def test_rows_are_sorted_by_part_and_id_and_ids_are_found_by_part():
    made = catalog.make(Given(*GOOD, sample("t", "test")), Path())
    assert [(row.part, row.id) for row in made.rows] == sorted((row.part, row.id) for row in made.rows)
    assert made.ids("train") == ("a", "b", "c", "u")
    assert [row.id for row in made.of("train") if not row.labelled] == ["u"]


def test_what_is_written_is_what_is_read(tmp_path):
    made = catalog.make(Given(*GOOD, sample('x, "y"\'ü')), Path())
    catalog.write(made, tmp_path / "deep" / "given.csv")
    assert catalog.read(tmp_path / "deep" / "given.csv") == made


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("1.csv", "2.csv"):
        catalog.write(catalog.make(Given(*GOOD), Path()), tmp_path / name)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_pandas_reads_the_table(tmp_path):
    catalog.write(catalog.make(Given(*GOOD), Path()), tmp_path / "given.csv")
    table = pd.read_csv(tmp_path / "given.csv", comment="#")
    assert list(table.columns) == [*catalog.COLUMNS, *Given.classes, "ignored"]
    assert len(table) == len(GOOD)


@pytest.mark.parametrize("lines", range(7))
def test_a_table_that_is_cut_off_at_a_line_is_refused(tmp_path, lines):
    path = tmp_path / "given.csv"
    catalog.write(catalog.make(Given(*GOOD), Path()), path)
    kept = path.read_text().splitlines(keepends=True)[:lines]
    path.write_text("".join(kept))
    with pytest.raises(BenchError, match=r"given\.csv: "):
        catalog.read(path)


def test_a_table_that_is_cut_off_anywhere_is_refused(tmp_path):
    path = tmp_path / "given.csv"
    catalog.write(catalog.make(Given(*GOOD), Path()), path)
    data = path.read_bytes()
    for kept in range(len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(BenchError, match=r"given\.csv: "):
            catalog.read(path)


@pytest.mark.parametrize("bit", [0, 5, 7])
def test_no_byte_of_a_table_changes_unseen(tmp_path, bit):
    path = tmp_path / "given.csv"
    catalog.write(catalog.make(Given(*GOOD), Path()), path)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        with pytest.raises(BenchError, match=r"given\.csv: not a whole catalog, or changed since it was written"):
            catalog.read(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [(b",48,", b",47,", "do not add up"), (b"\na,", b"\na,a,", "a row has"), (b",6,8,", b",6,x,", "invalid literal"),
     (b"a,train", b"\xff,train", "not text in UTF-8"), (b"id,part", b"id,party", "its columns are others"),
     (b"a,train", b'"' + b"a" * 200_000, "field larger than"), (b"sky", b'"sky', "expected after")],
)  # fmt: skip
def test_a_table_that_was_written_wrong_is_one_line(tmp_path, old, new, reason):
    path = tmp_path / "given.csv"
    catalog.write(catalog.make(Given(*GOOD), Path()), path)
    body = path.read_bytes().rpartition(b"# sha256")[0]
    body = body.replace(old, new, 1)
    path.write_bytes(body + f"# sha256: {hashlib.sha256(body).hexdigest()}\n".encode())
    with pytest.raises(BenchError, match=reason) as caught:
        catalog.read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named_with_what_to_do(tmp_path):
    with pytest.raises(BenchError, match=r"given\.csv: missing: make it"):
        catalog.read(tmp_path / "given.csv")


def test_one_id_twice_in_a_part_is_refused():
    assert "the id 'a' in train is there twice" in fault(sample("a"), sample("a"), GOOD[-1])


def test_samples_out_of_order_are_refused():
    assert "'a' in train comes after 'b'" in fault(sample("b"), sample("a"), GOOD[-1])


def test_one_id_in_two_parts_is_left_to_the_gate_of_the_splits():
    assert len(catalog.make(Given(sample("a"), sample("a", "val")), Path()).rows) == 2


@pytest.mark.parametrize("label", [2, 11, 254])
def test_a_label_out_of_range_is_named_with_its_count(label):
    found = fault(sample("a", label=label), GOOD[-1])
    assert f"mask of 'a' in train: label {label} at 48 pixels, but 2 classes allow 0..1 and 255" in found


def test_a_mask_of_another_size_is_named_with_both_sizes():
    wrong = replace(sample("a"), mask=encode_mask(np.zeros((8, 6), np.uint8)))
    assert "mask of 'a' in train: the mask has 8×6 pixels, its image 6×8" in fault(wrong, GOOD[-1])


def test_an_image_larger_than_the_canvas_is_named():
    assert "image of 'a' in train: 6×9 pixels do not fit the canvas of given, 8×8" in fault(sample("a", width=9))


@pytest.mark.parametrize("field", ["image", "mask"])
def test_a_truncated_png_is_named(field):
    data = getattr(GOOD[0], field)
    found = fault(replace(GOOD[0], **{field: data[: len(data) // 2]}), GOOD[-1])
    assert found.startswith(f"given: {field} of 'a' in train: ")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((), "train has no image with a mask"),
        ((sample("a"),), "val has no image with a mask"),
        ((sample("a", label=None), sample("v", "val")), "train has no image with a mask"),
        ((*GOOD, sample("w", "val", label=None)), "image of 'w' in val: is in val and has no mask"),
        (
            (*GOOD, sample("t", "test"), sample("w", "test", label=None)),
            "image of 'w' in test: is in test and has no mask",
        ),
    ],
)
def test_parts_without_the_masks_they_need_are_refused(samples, message):
    assert message in fault(*samples)


SKY = sample("a", label=0), sample("b", label=1), sample("v", "val", label=0)


def test_a_class_that_val_does_not_have_is_refused():
    found = refusal(Given(*SKY, rare_classes=()))
    assert "given: no mask in val has a pixel of class 1, 'a, \"quoted\" one'; labels that they have: 0:" in found


def test_a_class_that_no_label_of_train_has_is_refused():
    found = refusal(Given(SKY[0], *(sample(name, "val", label=label) for name, label in (("v", 0), ("w", 1))),
                          rare_classes=()))  # fmt: skip
    assert "no mask in train has a pixel of class 1" in found


def test_the_score_of_what_nobody_has_is_not_reported():
    """Masks of 0 and 255 for background and lesion: everything is background, and any network is 100 % right."""
    half = np.repeat([[0], [255]], 3, 0).repeat(8, 1).astype(np.uint8)
    given = [replace(sample(name, part), mask=encode_mask(half)) for name, part in (("a", "train"), ("v", "val"))]
    assert "no mask in train has a pixel of class 1" in refusal(Given(*given, rare_classes=()))


def test_a_rare_class_may_be_missing_and_that_is_said(capsys):
    catalog.make(Given(*SKY, rare_classes=Given.classes[1:]), Path())
    assert capsys.readouterr().err == "given: val has no pixel of 'a, \"quoted\" one': not scored there\n"


def test_a_class_that_only_the_test_part_lacks_is_said_and_not_refused(capsys):
    both = np.repeat([[0], [1]], 3, 0).repeat(8, 1).astype(np.uint8)
    given = [replace(sample(name, part), mask=encode_mask(both)) for name, part in (("a", "train"), ("v", "val"))]
    catalog.make(Given(*given, sample("t", "test", label=0), rare_classes=()), Path())
    assert "test has no pixel of" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_of_which_every_pixel_is_ignored_is_refused(part):
    given = [one for one in (*SKY, sample("t", "test")) if one.part != part]
    found = fault(*given, sample("x", part, label=255), sample("y", part, label=255))
    assert f"given: every pixel of all 2 masks in {part} is ignored (255)" in found


def test_a_mask_beside_a_turned_image_names_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(data, "PNG", exif=exif)
    found = fault(replace(sample("a"), image=data.getvalue()), GOOD[-1])
    assert "the mask has 6×8 pixels, its image 8×6 once it is turned by its Exif orientation, 6" in found


def test_a_test_part_without_any_masks_is_fine():
    assert len(catalog.make(Given(*GOOD, sample("t", "test", label=None)), Path()).of("test")) == 1


def test_a_full_disk_leaves_the_old_table_and_nothing_beside_it(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text("old")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    code = """
import sys
from pathlib import Path
from rc2l_bench.data import catalog
from rc2l_bench.console import guarded
row = catalog.Row("a", "train", 1, 1, "0" * 64, True, (1,), 0)
guarded(catalog.write)(catalog.Catalog(("c",), (row,) * 100), Path(sys.argv[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["given.csv"]


def test_camvid_has_the_pixels_that_its_masks_have(tmp_path, monkeypatch):
    from fetch_data import mirror

    from rc2l_bench.data.datasets.registry import load_dataset
    from rc2l_bench.data.fetch import MIRROR

    monkeypatch.setenv(MIRROR, str(mirror()))
    dataset, raw = load_dataset("camvid"), tmp_path / "camvid"
    dataset.prepare(raw)
    made = catalog.make(dataset, raw)
    assert {part: len(made.ids(part)) for part in ("train", "val", "test")} == {"train": 367, "val": 101, "test": 233}
    masks = [decode_mask(path.read_bytes()) for path in (raw / "valannot").iterdir()]
    counts = sum(np.bincount(mask.ravel(), minlength=12) for mask in masks)
    rows = made.of("val")
    assert [sum(row.pixels[index] for row in rows) for index in range(11)] == counts[:11].tolist()
    assert sum(row.ignored for row in rows) == counts[11]
