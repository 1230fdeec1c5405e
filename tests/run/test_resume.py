"""`python -m pipelines.train` as a process: killed, interrupted, out of disk, started twice, spread over processes.

The unbroken run, and those of several processes, are started as a user does; the others are forked: that is faster.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny_data
import torch
from processes_data import Stage
from safetensors.torch import load_file

from rc2l_bench.data.loader import evaluation_batches
from rc2l_bench.data.shards import Shards
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.run.evaluate import by_size, evaluate

pytestmark = pytest.mark.slow

LONG = {"default": {"steps": 60}}
METHOD = "baselines/mean_teacher"

SPY = '''
"""Writes down what it is given; learns nothing, and scores images with a fixed net."""
import os
from pathlib import Path
import torch
from torch import nn
from rc2l_bench.methods.contract import Method


class Spy(Method):
    def __init__(self, config, protocol, num_classes):
        super().__init__(config, protocol, num_classes)
        self.net = nn.Conv2d(3, num_classes, 3, padding=1, padding_mode="replicate")
        self.seen = 0

    def losses(self, batch, progress):
        folder = Path(os.environ["SPY"])
        rank = os.environ.get("LOCAL_RANK", "0")
        parts = {name: getattr(batch, name) for name in batch.__slots__}
        torch.save(parts, folder / f"{self.seen}-{rank}.pt")
        self.seen += 1
        return {"none": self.net(batch.image).sum() * 0}

    def predict(self, image):
        return self.net(image)

    def deployed(self):
        return self.net
'''


def arguments(out: str, method: str = METHOD, seed: int = 0) -> list[str]:
    return ["tiny", "1_4", method, str(seed), "data/shards/tiny", f"data/splits/tiny/1_4/seed{seed}.json", out]


def run(checkout: Path, out: str = "runs/a", method: str = METHOD, **env: str) -> subprocess.CompletedProcess[str]:
    """The same as a user does it."""
    command = [sys.executable, "-m", "pipelines.train", *arguments(out, method)]
    return subprocess.run(command, cwd=checkout, env=os.environ | env, capture_output=True, text=True, timeout=300)


def start(checkout: Path, out: str = "runs/a", seed: int = 0, limit: int | None = None) -> Stage:
    return Stage("pipelines.train", *arguments(out, seed=seed), cwd=checkout, limit=limit)


def digest(folder: Path) -> dict[str, str]:
    """sha256 of what must be equal; confusion.npz by content, for its bytes hold the time in some versions of numpy."""
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
             for name in ("model.safetensors", "metrics.json", "history.csv")}  # fmt: skip
    with np.load(folder / "confusion.npz") as counts:
        found |= {name: hashlib.sha256(counts[name].tobytes()).hexdigest() for name in counts.files}
    for picture in sorted((folder / "panels").iterdir()):
        found[picture.name] = hashlib.sha256(picture.read_bytes()).hexdigest()
    return found


def files(checkout: Path) -> list[Path]:
    """All that lies in the folder of the one run that there is."""
    return [path for folder in (checkout / ".rc2l/runs").glob("*") for path in folder.iterdir()]


def steps(checkout: Path) -> list[int]:
    """Steps of the whole checkpoints, and of those that are being written (negative)."""
    found = (re.fullmatch(r"\.?step-(\d+)\.ckpt(\.[0-9a-f]{8}-\d+-\d+\.tmp)?", path.name) for path in files(checkout))
    return [-int(match[1]) if match[2] else int(match[1]) for match in found if match]


def wait_for(process: Stage, ready: Callable[[], bool]) -> bool:
    """Waits for a moment; returns whether it came while the process was alive."""
    while process.running:
        with contextlib.suppress(FileNotFoundError):
            if ready():
                return True
        time.sleep(0.0003)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("long")
    tiny_data.write_checkout(root, protocol=LONG)
    return root


@pytest.fixture
def long(folder, tmp_path) -> Path:
    """A checkout for a training of a few seconds."""
    return shutil.copytree(folder, tmp_path / "checkout", ignore=shutil.ignore_patterns(".rc2l", "runs"))


@pytest.fixture(scope="module")
def unbroken(folder) -> dict[str, str]:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return digest(folder / "runs/a")


def test_a_run_killed_at_ten_random_moments_ends_the_same(long, unbroken):
    moments = np.random.default_rng(0)
    during_writes, done = 0, 0
    for kill in range(10):
        process = start(long)
        goal = done + 2 + int(moments.integers(0, 4))
        if kill % 2:  # While a checkpoint is being written.
            came = wait_for(process, lambda goal=goal: any(step <= -goal for step in steps(long)))
        else:
            came = wait_for(process, lambda goal=goal: any(step >= goal for step in steps(long)))
            time.sleep(moments.uniform(0, 0.05))
        assert came, process.end()
        process.kill()
        found = steps(long)
        during_writes += any(step < 0 for step in found)
        done = max(found)
        assert not (long / "runs/a").exists()
    assert during_writes >= 1, "no kill hit a write"
    said = start(long).end()
    assert "Traceback" not in said
    assert digest(long / "runs/a") == unbroken
    assert not [path for path in files(long) if path.name not in ("lock", "result")]


def test_a_run_killed_while_its_result_is_written_ends_the_same(long, unbroken):
    process = start(long)
    assert wait_for(process, lambda: any(path.name.startswith(".result.") for path in files(long)))
    process.kill()
    start(long).end()
    assert digest(long / "runs/a") == unbroken
    assert not [path for path in files(long) if path.name not in ("lock", "result")]


def test_a_damaged_newest_checkpoint_falls_back_and_ends_the_same(long, unbroken):
    process = start(long)
    assert wait_for(process, lambda: max(steps(long), default=0) >= 10)
    process.kill()
    newest = max(path for path in files(long) if path.suffix == ".ckpt")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    start(long).end()
    assert digest(long / "runs/a") == unbroken


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)], ids=lambda value: str(value)
)
def test_a_run_that_is_asked_to_stop_loses_no_step_and_continues(long, unbroken, number, code):
    tiny_data.write_yaml(
        long / "params.yaml", tiny_data.params(protocol=LONG, runtime={"checkpoint_every": 1000, "log_every": 5})
    )
    process = start(long)
    assert wait_for(process, lambda: any("step 20/60" in file.read_text() for file in long.glob(".output*")))
    process.send(number)
    said = process.end(code)
    match = re.fullmatch(r"stopped after step (\d+) of 60; the same command continues where this one stopped\n", said)
    assert match, said
    assert 20 <= int(match[1]) < 60
    assert steps(long) == [int(match[1])], "every step that was done is in the checkpoint"
    start(long).end()
    assert digest(long / "runs/a") == unbroken


def test_a_run_that_is_asked_to_stop_at_ten_random_moments_ends_the_same(long, unbroken):
    """Some of them before the first step and some in an evaluation."""
    moments = np.random.default_rng(1)
    for _ in range(10):
        process = start(long)
        assert wait_for(process, process.errors.exists)
        time.sleep(moments.uniform(0, 1.5))
        with contextlib.suppress(ProcessLookupError):  # on a quick machine it may have ended
            process.send(signal.SIGTERM)
        process.process.join(60)
        assert process.process.exitcode in (75, -signal.SIGTERM, 0), process.errors.read_text()
        assert "Traceback" not in process.errors.read_text()
    start(long).end()
    assert digest(long / "runs/a") == unbroken


def test_two_processes_stop_after_the_same_step_and_continue_to_the_bit(tmp_path):
    """The signal reaches the first one only."""
    for name in ("whole", "cut"):
        tiny_data.write_checkout(tmp_path / name, runtime={"devices": 2, "checkpoint_every": 1000}, protocol=LONG)
    done = run(tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "pipelines.train", *arguments("runs/a")]
    with subprocess.Popen(
        command, cwd=tmp_path / "cut", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if "step 20/60" in line:
                process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()
    assert process.returncode == 75, errors
    assert re.search(r"^stopped after step \d+ of 60; the same command continues", errors, re.MULTILINE)
    assert "Traceback" not in errors
    assert len(steps(tmp_path / "cut")) == 1
    again = run(tmp_path / "cut")
    assert again.returncode == 0, again.stderr
    assert digest(tmp_path / "cut/runs/a") == digest(tmp_path / "whole/runs/a")


def test_no_process_of_a_training_outlives_the_first_one(tmp_path):
    tiny_data.write_checkout(tmp_path, runtime={"devices": 2}, protocol={"default": {"steps": 100_000}})
    command = [sys.executable, "-m", "pipelines.train", *arguments("runs/a")]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not steps(tmp_path):
            assert process.poll() is None
            time.sleep(0.05)
        others = psutil.Process(process.pid).children(recursive=True)
        assert others
        process.kill()
    _, still = psutil.wait_procs(others, timeout=30)
    assert not [one for one in still if one.status() != psutil.STATUS_ZOMBIE]


def test_a_full_disk_ends_in_one_line_and_the_run_continues(long, unbroken):
    said = start(long, limit=1_000_000).end(1)
    assert re.fullmatch(r"error: .*File too large\n", said)
    assert [path.name for path in files(long)] == ["lock"], "nothing half-written"
    start(long).end()
    assert digest(long / "runs/a") == unbroken


def test_a_second_process_on_the_same_run_is_told_in_one_line(long):
    process = start(long)
    assert wait_for(process, lambda: bool(steps(long)))
    process.send(signal.SIGSTOP)
    said = start(long, "runs/b").end(1)
    process.kill()
    assert re.fullmatch(r"error: another process is on this run \(.*\): wait for it, the result will be shared\n", said)
    assert not (long / "runs").exists()


def test_a_finished_run_is_handed_out_without_training(folder, unbroken):
    result = next(path for path in files(folder) if path.name == "result")
    before = result.stat().st_ctime_ns, digest(result)
    start(folder, "runs/again").end()
    assert digest(folder / "runs/again") == unbroken
    assert (result.stat().st_ctime_ns, digest(result)) == before


def test_workers_cache_and_checkpoints_change_no_number(long, unbroken):
    tiny_data.write_yaml(
        long / "params.yaml",
        tiny_data.params(protocol=LONG, runtime={"workers": 2, "cache_mb": 0, "checkpoint_every": 1000}),
    )
    start(long).end()
    assert digest(long / "runs/a") == unbroken


def test_another_seed_is_another_run(long, unbroken):
    start(long, "runs/b", seed=1).end()
    assert digest(long / "runs/b")["model.safetensors"] != unbroken["model.safetensors"]


@pytest.fixture(scope="module")
def spied(tmp_path_factory) -> dict[int, Path]:
    """What one process and two processes were given, and what they scored."""
    found = {}
    for devices in (1, 2):
        root = tmp_path_factory.mktemp(f"spied{devices}")
        runtime = {"devices": devices, "precision": "32-true"}
        tiny_data.write_checkout(root, runtime=runtime, protocol={"default": {"steps": 5}})
        (root / "baselines/spy.py").write_text(SPY)
        tiny_data.write_yaml(root / "baselines/spy.yaml", {"views": tiny_data.VIEWS})
        (root / "seen").mkdir()
        done = run(root, method="baselines/spy", SPY=str(root / "seen"))
        assert done.returncode == 0, done.stderr
        found[devices] = root
    return found


def test_two_processes_see_the_batches_of_one(spied):
    for step in range(5):
        whole = torch.load(spied[1] / f"seen/{step}-0.pt", weights_only=True)
        parts = [torch.load(spied[2] / f"seen/{step}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        for name, value in whole.items():
            rows = torch.cat([part[name] for part in parts], dim=1 if name in ("strong", "box") else 0)
            assert torch.allclose(rows.float(), value.float(), atol=1e-5), name
        assert torch.equal(torch.cat([part["label"] for part in parts]), whole["label"])


def test_two_processes_count_every_image_once_like_one(spied):
    one, two = (np.load(spied[devices] / "runs/a/confusion.npz") for devices in (1, 2))
    assert one["val_ids"].tolist() == [sample.id for sample in tiny_data.samples("val")]
    for name in one.files:
        assert np.array_equal(one[name], two[name]), name
    assert (one["val"].sum((0, 1)) > 0).sum() > 1, "more than one class is predicted"


def test_two_processes_write_one_result(spied):
    one, two = (json.loads((spied[devices] / "runs/a/metrics.json").read_text()) for devices in (1, 2))
    assert one == two


def test_what_two_processes_score_is_what_they_save(tmp_path):
    """Batch-norm statistics differ between processes while they train."""
    tiny_data.write_checkout(tmp_path, runtime={"devices": 2}, protocol={"default": {"steps": 40}})
    done = run(tmp_path, method="baselines/supervised")
    assert done.returncode == 0, done.stderr
    net = PixelNet(tiny_data.protocol().net, 3).eval()
    net.load_state_dict(load_file(tmp_path / "runs/a/model.safetensors"))
    shards = Shards(tmp_path / "data/shards/tiny/val")
    raws = evaluation_batches(shards, batch=2)
    images = (group for raw in raws for group in by_size(raw.ids, raw.image, raw.label, raw.size))
    protocol = tiny_data.protocol()
    again = evaluate(net, images, protocol.eval, image_scale=1.0, num_classes=3, device=torch.device("cpu"))
    with np.load(tmp_path / "runs/a/confusion.npz") as counts:
        assert (counts["val"].sum((0, 1)) > 0).sum() > 1, "more than one class is predicted"
        assert np.abs(counts["val"] - again.confusion).sum() <= 2, "up to rounding in the last bit"


@pytest.mark.parametrize("batch", [{"labelled": 3}, {"unlabelled": 2}])
def test_a_batch_or_pairs_that_two_processes_cannot_share_are_told(tmp_path, batch):
    tiny_data.write_checkout(tmp_path, runtime={"devices": 2}, protocol={"default": {"batch": batch}})
    done = run(tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(rf"error: .*batch.* of {min(batch.values())} images", done.stderr)
    assert done.stderr.count("error:") == 1, "one process speaks for both"
    assert not (tmp_path / "runs").exists()
