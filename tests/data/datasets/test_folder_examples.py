"""The descriptions in datasets/README.md, read from there and tried on small trees of the real layout."""

from __future__ import annotations

import re
from pathlib import Path

import cityscapes_data
import numpy as np
import pytest
import tiny_data
import voc_data
from archives_data import jpeg, png, scene
from ruamel.yaml import YAML

from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.cityscapes import TRAIN_IDS, Cityscapes
from rc2l_bench.data.datasets.folder import Folder
from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.voc import Voc
from rc2l_bench.data.decode import decode_mask
from rc2l_bench.schema import check

README = (tiny_data.ROOT / "datasets/README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def unpack(home: Path, top: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = home / top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def described(word: str, **changes) -> Folder:
    """The data set of the block that holds a word; small trees do not show every class."""
    (block,) = (block for block in BLOCKS if word in block)
    data = YAML(typ="safe").load(block) | changes
    data |= {"rare_classes": list(check(FolderConfig, data, Path("x.yaml")).names)}
    Path("tree.yaml").write_text("")
    YAML(typ="safe").dump(data, Path("tree.yaml"))
    return Folder(Path("tree.yaml"))


def test_an_unpacked_cityscapes_has_the_classes_of_the_archive(home):
    unpack(home, "cityscapes", cityscapes_data.image_files() | cityscapes_data.mask_files())
    dataset, raw = described("leftImg8bit"), home / "raw"
    dataset.prepare(raw)
    assert dataset.classes == Cityscapes.classes
    assert [sample.id for sample in dataset.samples(raw, "val")] == cityscapes_data.IDS["val"]
    assert [sample.id for sample in dataset.samples(raw, "train")] == sorted(cityscapes_data.IDS["train"])
    for sample in dataset.samples(raw, "train"):
        stored = cityscapes_data.picture(sample.id)[1]
        wanted = np.vectorize(lambda label: TRAIN_IDS.get(label, 255))(stored)
        assert np.array_equal(decode_mask(sample.mask), wanted)


def test_an_unpacked_voc_has_the_images_of_its_lists(home):
    unpack(home, "", voc_data.voc_files())
    dataset, raw = described("SegmentationClass"), Path("data/raw/tree")
    dataset.prepare(raw)
    made = catalog.make(dataset, raw)
    assert dataset.classes == Voc.classes
    assert (made.ids("train"), made.ids("val")) == (tuple(voc_data.CLEAN), tuple(voc_data.VAL))
    assert "9 in no part" in (dataset.left() or "")


def test_zero_is_ignored_in_ade20k(home):
    files = {}
    for part, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            image, mask = scene(number + 100 * len(part), (40, 48), 4)
            files |= {f"images/{part}/ADE_{part}_{number}.jpg": jpeg(image),
                      f"annotations/{part}/ADE_{part}_{number}.png": png(mask)}  # fmt: skip
    unpack(home, "ADEChallengeData2016", files)
    dataset, raw = described("ADEChallengeData2016", classes=["wall", "building", "sky"]), home / "raw"
    dataset.prepare(raw)
    for sample in dataset.samples(raw, "val"):
        stored = scene(int(sample.id[-1]) + 100 * len("validation"), (40, 48), 4)[1]
        assert np.array_equal(decode_mask(sample.mask), np.where(stored == 0, 255, stored - 1))


def test_every_key_of_a_description_is_in_the_readme():
    keys = set(re.findall(r"^(?:# )?(\w+):", BLOCKS[0], re.MULTILINE))
    assert keys == set(FolderConfig.model_fields)
