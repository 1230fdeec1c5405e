"""The table of COCO's regions: what the JSON says, image by image, and what it must not say."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from pathlib import Path

import coco_data
import pytest
from archives_data import pack_zip
from coco_data import ANNOTATIONS, IDS, LABELS, NAMES, changed, member

from rc2l_bench.data.datasets import coco_regions
from rc2l_bench.data.datasets.coco_regions import Region, open_regions, write_regions
from rc2l_bench.data.datasets.members import ZipMembers
from rc2l_bench.errors import BenchError
from rc2l_bench.readers import DamagedFileError

pytest.importorskip("ijson", reason="ijson is not installed")


def make(folder: Path, *, documents=None, changes=None) -> Path:
    """The table of the small archive's annotations, some of which may be changed."""
    whole = {part: coco_data.document(part) for part in IDS} | (documents or {})
    files = {member(part): json.dumps(content).encode() for part, content in whole.items()} | (changes or {})
    pack_zip(folder / ANNOTATIONS, files)
    with ZipMembers(folder / ANNOTATIONS, "") as archive:
        write_regions(archive, {part: member(part) for part in IDS}, LABELS, NAMES, (640, 640), folder / "table")
    return folder / "table"


def refused(folder: Path, **how) -> str:
    with pytest.raises(BenchError) as caught:
        make(folder, **how)
    return str(caught.value)


def test_an_image_has_its_size_and_its_regions_in_the_order_of_the_json(tmp_path):
    with open_regions(make(tmp_path)) as table:
        for part, numbers in IDS.items():
            assert list(table.sizes(part).items()) == [(n, coco_data.size_of(n)) for n in sorted(numbers)]
            for number in numbers:
                wanted = [item for item in coco_data.document(part)["annotations"] if item["image_id"] == number]
                assert table.of_image(part, number) == [
                    Region(LABELS[item["category_id"]], bool(item["iscrowd"]), item["segmentation"]) for item in wanted
                ]
        assert (table.sizes("test"), table.of_image("val", 9)) == ({}, [])


def test_a_table_is_made_of_the_same_bytes_again(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert make(tmp_path / "a").read_bytes() == make(tmp_path / "b").read_bytes()


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "table").write_bytes(b"no table" * 1000)
    with (
        pytest.raises(DamagedFileError, match=r"table: .*: delete it and run the same command again"),
        open_regions(tmp_path / "table") as table,
    ):
        table.sizes("val")


@pytest.mark.parametrize(("change", "fault"), [
    (lambda d: d["annotations"][0].update(image_id=5), "a region is of image 5, which is not there"),
    (lambda d: d["annotations"][0].update(category_id=12), "a region is of category 12, which COCO does not have"),
    (lambda d: d["annotations"][0].pop("segmentation"), "has no 'segmentation'"),
    (lambda d: d["images"][0].update(height=100_000), "has 100000×40 pixels, expected at most 640×640"),
    (lambda d: d["images"][0].update(file_name="../../x.jpg"), "image 632 has the file '../../x.jpg'"),
    (lambda d: d["images"].append(d["images"][0]), "images are there twice"),
    (lambda d: d["images"][0].update(id="632"), "id is '632', expected a whole number"),
    (lambda d: d["categories"].pop(), "has other categories than COCO, such as (90, 'toothbrush')"),
])  # fmt: skip
def test_annotations_that_cannot_be_are_named_with_their_file(tmp_path, change, fault):
    how = changed("val", lambda content: (content["images"].reverse(), change(content)))
    text = refused(tmp_path, **how)
    assert f"{ANNOTATIONS}: {member('val')}: " in text
    assert fault in text


@pytest.mark.parametrize("spoil", [lambda data: data[:-200], lambda _: b"no JSON", lambda data: data + b"]"])
def test_a_damaged_json_is_named(tmp_path, spoil):
    data = json.dumps(coco_data.document("train")).encode()
    text = refused(tmp_path, changes={member("train"): spoil(data)})
    assert f"{ANNOTATIONS}: {member('train')}: damaged (no valid JSON" in text


def test_a_json_that_claims_to_be_far_larger_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_regions, "MOST_JSON", 1000)
    text = refused(tmp_path)
    assert f"{ANNOTATIONS}: {member('train')} claims" in text
    assert "expected at most 1,000" in text


class Counted(io.BytesIO):
    """A member of a zip that is noted as far as it was read."""

    @contextmanager
    def stream(self, *_):
        yield self


def test_the_annotations_are_read_as_far_as_they_are_needed():
    content = coco_data.document("train")
    content["annotations"] *= 200
    archive = Counted(json.dumps(content).encode())
    items = coco_regions._items(archive, "x.json", "annotations")
    assert next(items)["category_id"] in NAMES
    assert archive.tell() < len(archive.getvalue()) / 10
    assert len(list(items)) == len(content["annotations"]) - 1
