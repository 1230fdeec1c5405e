"""The stage `audit`."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_data
from folder_data import RAW, describe, write_images

from pipelines.audit import main
from rc2l_bench.data import catalog, splits
from rc2l_bench.data.audit import choose_audited
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.packing import verify
from rc2l_bench.data.splits import Split, TrainingImages

TABLE = Path("data/catalog/mine.csv")


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    """Seven training images of the user, looked at and counted."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    describe("mine")
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params())
    load_dataset("mine").prepare(RAW)
    catalog.write(catalog.make(load_dataset("mine"), RAW), TABLE)
    return tmp_path


def audited(labelled: list[str], seed: int = 0) -> tuple[Path, Split]:
    """What the stage packs of a split, and the split."""
    train = TrainingImages(count=7, ids_sha256="ab" * 32)
    plan = Split(
        dataset="mine", name="few", labelled=tuple(labelled), unlabelled=None, train=train, pixels={}, provenance={}
    )
    path, out = Path(f"data/splits/mine/few/seed{seed}.json"), Path(f"data/shards/mine/audit/few/seed{seed}")
    splits.write(plan, path)
    main("mine", RAW, TABLE, path, out)
    return out, plan


def ids() -> list[str]:
    return list(catalog.read(TABLE).ids("train"))


def test_the_chosen_images_are_packed_with_their_masks():
    out, plan = audited(ids()[:2])
    shards = verify(out)
    assert list(shards.ids) == choose_audited(plan, catalog.read(TABLE)) == ids()[2:]
    assert shards.labelled
    assert shards.index.split is None


def test_where_every_image_is_labelled_the_shards_are_empty():
    assert len(verify(audited(ids())[0])) == 0


def test_what_seeds_have_in_common_lies_on_the_disk_once():
    tars = [next(audited(ids()[:count], seed)[0].glob("*.tar")) for seed, count in enumerate((2, 3, 2))]
    assert tars[2].samefile(tars[0])
    assert not tars[1].samefile(tars[0])
