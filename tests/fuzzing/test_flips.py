"""A flipped bit in what a number depends on is found, has no effect, or makes another run under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import folder_data
import fuzz_corpus
import pytest
import report_data
import tiny_data
from fuzz_strategies import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

from rc2l_bench.config import Params, load
from rc2l_bench.data import catalog, split_lists
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.split_import import resolve
from rc2l_bench.errors import BenchError
from rc2l_bench.run import cell
from rc2l_bench.run.store import Run

pytestmark = pytest.mark.slow
CELL = ("tiny", "1_4", "baselines/cps", 0)
SHARDS, PLAN, RUN = Path("data/shards/tiny"), Path("data/splits/tiny/1_4/seed0.json"), "f" * 64
KINDS = ("data/shards", "data/splits", "data/raw", "data/catalog", "splits/mine", "photos", "masks", "datasets",
         "store", "tuned", "baselines/cps.yaml", "params.yaml")  # fmt: skip
"""What is read for a number; folders stand for all files in them."""


@pytest.fixture(scope="module")
def files() -> Iterator[dict[str, list[Path]]]:
    """Files of the checkout by kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell, "digest_sources", cache(cell.digest_sources))  # sources are none of the files here
        found = {kind: _under(Path(kind)) for kind in KINDS}
        assert all(found.values())
        yield found


def _under(path: Path) -> list[Path]:
    return (
        sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size) if path.is_dir() else [path]
    )


@pytest.fixture(scope="module", autouse=True)
def checkout(tmp_path_factory) -> Iterator[None]:
    """Everything between a user's images and a result, in the current folder."""
    root = tmp_path_factory.mktemp("flips")
    with chdir(root):
        tiny_data.write_checkout(root)
        folder_data.write_images(root)
        mine = folder_data.prepared()
        table = catalog.make(mine, folder_data.RAW)
        catalog.write(table, Path("data/catalog/mine.csv"))
        split_lists.pin(Path("splits/mine/few.txt"), table.ids("train")[:3], table.ids("train")[3:5], {"list": "few"})
        fuzz_corpus.write_tuned("tiny")
        folder = report_data.write_run("made", images=3, panels=1, record={"fingerprint": RUN})
        Path("store", RUN).mkdir(parents=True)
        folder.rename(Path("store", RUN, "result"))
        yield


def read_everything() -> tuple[str, str]:
    """The name of a run, and a digest of all that is read for it and for the split of the user's images."""
    inputs = cell.open_cell(*CELL, SHARDS, PLAN)
    content = hashlib.sha256()

    def add(*parts: Any) -> None:
        content.update(repr(parts).encode())

    add(inputs.plan)
    for shards in (inputs.pool, inputs.labelled, inputs.val, inputs.test):
        for position, identity in enumerate(shards.ids):
            add(identity, shards.index.split, shards.read_image(position).tobytes())
            if shards is not inputs.pool:
                add(shards.read_mask(position).tobytes())
        shards.close()
    table = catalog.read(Path("data/catalog/mine.csv"))
    add(table, resolve("mine", "few", table, load(Params, Path("params.yaml")).split))
    mine = load_dataset("mine")
    add(mine.meta(), *(list(mine.samples(folder_data.RAW, part)) for part in ("train", "val", "test")))
    Run(Path("store"), RUN).verify()
    return inputs.provenance()["fingerprint"], content.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
@settings(CASES, max_examples=CASES.max_examples // 2)
@given(data=st.data())
def test_a_flipped_bit_changes_no_number_unseen(files, kind, data):
    file = data.draw(st.sampled_from(files[kind]))
    good = file.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    before = read_everything()
    file.write_bytes(good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :])
    try:
        found = read_everything()
    except (BenchError, OSError):
        return
    finally:
        file.write_bytes(good)
    assert found == before or (found[0] != before[0] and kind in ("tuned", "baselines/cps.yaml", "params.yaml"))
