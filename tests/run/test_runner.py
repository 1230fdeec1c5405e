"""A cell whose unlabelled images lie elsewhere: on the disk, behind a server that misbehaves, in a stream of tars."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_data
import torch
from web_data import FAULTS, FolderServer, serve_folder

from rc2l_bench.data import download, packing, ranges, remote
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.pool_index import index_sets
from rc2l_bench.errors import BenchError
from rc2l_bench.run.cell import RunInputs, open_cell
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.runner import Wiring, carry_out
from rc2l_bench.run.signals import Preemption
from rc2l_bench.run.store import Run

METHOD, STEPS = "baselines/mean_teacher", 6
META = {"name": "tiny", "classes": list(tiny_data.CLASSES), "palette": [], "canvas": list(tiny_data.CANVAS)}
SHARDS, PLAN = Path("data/shards/tiny"), Path("data/splits/tiny/1_4/seed0.json")


def strangers(count: int) -> list[Sample]:
    """Images of somebody else, and one that is labelled here."""
    own = tiny_data.make_sample("train", 0)
    others = [tiny_data.make_sample("val", 100 + number) for number in range(count)]
    return sorted([own, *others], key=lambda sample: sample.id)


def write_tar(path: Path, samples: list[Sample]) -> None:
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            info = tarfile.TarInfo(f"{sample.id}.png")
            info.size = len(sample.image)
            tar.addfile(info, io.BytesIO(sample.image))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("far")
    tiny_data.write_checkout(root, protocol={"default": {"steps": STEPS}}, shard={"mirror_gb": 0})
    packing.write(root / "served/packed", strangers(9), META, "train", 4, with_masks=False)
    write_tar(root / "served/plain-0.tar", strangers(5))
    write_tar(root / "served/plain-1.tar", strangers(9)[6:])
    return root


@pytest.fixture
def web(checkout, monkeypatch) -> Iterator[FolderServer]:
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(ranges, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(download, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with serve_folder(checkout / "served") as server:
        yield server


def opened(*pool: str, stream: StreamConfig | None = None, room: int = 0) -> RunInputs:
    index_sets(pool, stream, META, SHARDS / "extra", room)
    return open_cell("tiny", "1_4", METHOD, 0, SHARDS, PLAN)


def changed(cell: RunInputs, **parts: dict[str, float]) -> RunInputs:
    """The cell under another params.yaml."""
    params = cell.params
    return replace(cell, params=params.model_copy(update={
        name: getattr(params, name).model_copy(update=values) for name, values in parts.items()
    }))  # fmt: skip


def weights(cell: RunInputs, out: Path) -> dict[str, str]:
    """Hashes of what a training leaves; its record goes to the test's folder."""
    provenance = cell.provenance()
    run = Run(out, provenance["fingerprint"])
    with run.lock():
        carry_out(cell, run, provenance, Preemption())
        run.materialise(out / "result")
    names = ("model.safetensors", "metrics.json", "history.csv")
    return {name: hashlib.sha256((out / "result" / name).read_bytes()).hexdigest() for name in names}


def batches(cell: RunInputs) -> list[dict[str, torch.Tensor]]:
    wiring = Wiring(cell, open_fabric(cell.params.runtime))
    wiring.fetch_pool()
    return [wiring.augment(loaded, step).tensors() for step, loaded in enumerate(wiring.batches(0))]


def assert_equal(first: list[dict[str, torch.Tensor]], second: list[dict[str, torch.Tensor]]) -> None:
    for one, other in zip(first, second, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


def test_a_training_from_a_server_that_misbehaves_gives_the_weights_of_one_from_disk(web, tmp_path):
    near = opened("served/packed", "served/plain-*.tar")
    assert near.unlabelled.left_out == 2, "the labelled image, once in the shards and once in a tar"
    expected = weights(near, tmp_path / "near")
    far = opened(f"{web.url}/packed/", f"{web.url}/plain-{{0..1}}.tar")
    assert far.provenance()["fingerprint"] == near.provenance()["fingerprint"]
    web.faults, web.every = FAULTS, 3
    assert weights(far, tmp_path / "far") == expected
    assert {"stalls", "cuts", "busy", "overloaded", "ignores_range"} <= set(web.failed)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_from_disk_from_afar_and_from_copies(web, workers):
    near = batches(opened("served/packed"))
    far = changed(opened(f"{web.url}/packed/"), runtime={"workers": workers})
    assert_equal(batches(far), near)
    assert any(span for _, span in web.asked)
    copied = changed(far, shard={"mirror_gb": 1.0})
    assert_equal(batches(copied), near)
    web.asked.clear()
    assert_equal(batches(copied), near)
    assert not web.asked


def test_a_run_goes_on_after_its_server_went_away_and_its_secret_is_written_nowhere(web, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("POOL_TOKEN", "s3cret")
    web.token = "sig=s3cret"
    expected = weights(opened("served/packed"), tmp_path / "near")
    far, save = opened(f"{web.url}/packed/?sig=${{POOL_TOKEN}}"), Run.save

    def save_and_go_away(run: Run, step: int, state: Mapping[str, Any]) -> None:
        save(run, step, state)
        web.faults = ("overloaded",)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save_and_go_away)
        with pytest.raises(BenchError, match=r"answers 503 \(tried 5 times\): run the same again later, it goes on"):
            weights(far, tmp_path / "far")
    web.faults = ()
    assert weights(far, tmp_path / "far") == expected
    written = [path for folder in (tmp_path, Path(".rc2l"), Path("data")) for path in folder.rglob("*")]
    assert not any(b"s3cret" in path.read_bytes() for path in written if path.is_file())
    assert "s3cret" not in "".join(capfd.readouterr())


def stream_of(*tars: str) -> StreamConfig:
    return StreamConfig(stream=list(tars), shuffle=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_feeds_a_training_and_says_that_nobody_can_replay_it(web, workers):
    cell = changed(opened(stream=stream_of(f"{web.url}/plain-{{0..1}}.tar")), runtime={"workers": workers})
    assert cell.num_unlabelled is None
    pool = cell.provenance()["pool"]
    assert pool["stream"] == [f"{web.url}/plain-{{0..1}}.tar"]
    assert pool["replayable"] is False
    found = batches(cell)
    assert len(found) == STEPS
    assert all(batch["weak"].shape == (4, 3, 32, 32) for batch in found)
    exact = batches(opened("served/packed"))
    assert_equal([{"image": batch["image"]} for batch in found], [{"image": batch["image"]} for batch in exact])
