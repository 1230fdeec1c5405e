from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from rc2l_bench.data.datasets import scenes, shapes
from rc2l_bench.data.datasets.shapes import Shapes
from rc2l_bench.data.decode import decode_image, decode_mask
from rc2l_bench.errors import BenchError

PNG_SHA256 = "19f76aabfe76efa3ffe40b8a576968d3b9c36faa2428fd475a6ceeee0afad93c"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "raw" / "shapes"
    Shapes().prepare(folder)
    return folder


def test_the_pixels_are_the_ones_that_results_are_published_for(raw: Path) -> None:
    assert hashlib.sha256((raw / "shapes.bin").read_bytes()).hexdigest() == Shapes.sha256


def test_the_png_bytes_are_the_same_on_every_machine(raw: Path) -> None:
    digest = hashlib.sha256()
    for part in ("train", "val"):
        for sample in Shapes().samples(raw, part):
            digest.update(sample.id.encode() + sample.image + sample.mask)
    assert digest.hexdigest() == PNG_SHA256


def test_samples_are_what_was_generated_in_sorted_order(raw: Path) -> None:
    samples = list(Shapes().samples(raw, "val"))
    assert len(samples) == 256
    assert [s.id for s in samples] == sorted(s.id for s in samples)
    image, label = scenes.generate([samples[200].id])
    assert np.array_equal(decode_image(samples[200].image), image[0])
    assert np.array_equal(decode_mask(samples[200].mask), label[0])


def test_only_the_wanted_samples_come_and_test_is_empty(raw: Path) -> None:
    wanted = {"train_0005", "train_1023"}
    assert {s.id for s in Shapes().samples(raw, "train", wanted)} == wanted
    assert list(Shapes().samples(raw, "test")) == []
    assert sum(1 for _ in Shapes().samples(raw, "train", [])) == 0


def test_preparing_again_touches_nothing(raw: Path) -> None:
    before = (raw / "shapes.bin").stat().st_mtime_ns
    Shapes().prepare(raw)
    assert (raw / "shapes.bin").stat().st_mtime_ns == before
    assert [path.name for path in raw.iterdir()] == ["shapes.bin"]


def test_a_flipped_byte_is_found_and_repaired(tmp_path: Path, raw: Path) -> None:
    data = bytearray((raw / "shapes.bin").read_bytes())
    data[1000] ^= 1
    (tmp_path / "shapes.bin").write_bytes(data)
    with pytest.raises(BenchError, match="not the pixels"):
        Shapes().verify(tmp_path)
    Shapes().prepare(tmp_path)
    Shapes().verify(tmp_path)


def test_a_cut_off_file_is_named(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "shapes.bin").write_bytes((raw / "shapes.bin").read_bytes()[:-1])
    with pytest.raises(BenchError, match=r"val_0255.*cut off"):
        list(Shapes().samples(tmp_path, "val"))


def test_a_machine_that_computes_other_pixels_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "COUNTS", {"train": 1, "val": 1})
    with pytest.raises(BenchError, match="expected"):
        Shapes().prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []
