"""Runs that machines share. Two folders of runs are two machines; the store is a folder, or a server of S3."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import s3_data
import tiny_data

from pipelines.train import main
from rc2l_bench.errors import BenchError, BusyError, PreemptedError
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.run import far_runs, runner
from rc2l_bench.run.far_runs import MANIFEST, FarRun, fetch_finished, sharing
from rc2l_bench.run.far_store import FarStore, FolderStore
from rc2l_bench.run.leases import holding
from rc2l_bench.run.object_store import VARIABLE, FsspecStore
from rc2l_bench.run.store import Run
from rc2l_bench.seals import FILES, RECORD, list_files, seal

NAME = "a" * 64
UPLOAD = """
import sys
from pathlib import Path
from rc2l_bench.run.far_runs import sharing
from rc2l_bench.run.store import Run
run = Run(Path(sys.argv[1]), sys.argv[2])
with run.lock(), sharing(run, 0) as put:
    put()
"""
STALL = """
import os, shutil
def stall(content, file, size):
    file.write(content.read(1000))
    file.flush()
    print("half", flush=True)
    os.read(0, 1)
shutil.copyfileobj = stall
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> FolderStore:
    """The store, which the environment names."""
    (tmp_path / "store").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "store"))
    return FolderStore(tmp_path / "store")


def finish(
    run: Run, miou: float = 0.5, seconds: float = 1.0, model: bytes = b"weights", calibration: bytes = b"counts"
) -> Run:
    """A result whose numbers and cost are given."""

    def fill(folder: Path) -> None:
        (folder / "metrics.json").write_text(json.dumps({"miou": miou}))
        (folder / "cost.json").write_text(json.dumps({"seconds": seconds}))
        (folder / "model.safetensors").write_bytes(model)
        (folder / "calibration.npz").write_bytes(calibration)
        (folder / "panels").mkdir()
        (folder / "panels/0.png").write_bytes(b"png")
        (folder / RECORD).write_bytes(seal({"fingerprint": run.name, FILES: list_files(folder)}))

    run.folder.mkdir(parents=True, exist_ok=True)
    run.finish(fill)
    return run


def checkpoint(run: Run, step: int, content: bytes = b"state") -> Path:
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / f"step-{step:08d}.ckpt"
    path.write_bytes(hashlib.sha256(content).digest() + content)
    return path


def take_part(run: Run, minutes: float = 0, **result: float) -> Run:
    """What a stage does: train unless there is a result, and put it there."""
    with run.lock(), sharing(run, minutes) as put:
        if not run.complete:
            finish(run, **result)
        put()
    return run


def preempt(run: Run, minutes: float, steps: Sequence[int]) -> None:
    """What a stage does that is asked to stop after some checkpoints."""
    with contextlib.suppress(PreemptedError), run.lock(), sharing(run, minutes):
        for step in steps:
            run.saved(checkpoint(run, step))
        raise PreemptedError("stopped")


def machine(tmp_path: Path, name: str) -> Run:
    return Run(tmp_path / name, NAME)


def files_of(run: Run) -> dict[str, str]:
    return list_files(run.result)


@pytest.fixture(params=["folder", "s3"])
def store(request, folder, monkeypatch) -> FarStore:
    """A store of either kind, which the environment names."""
    if request.param == "folder":
        return folder
    address = request.getfixturevalue("s3")
    monkeypatch.setenv(VARIABLE, address)
    return FsspecStore(address)


def test_a_finished_run_is_there_for_other_machines(store, tmp_path):
    one = take_part(machine(tmp_path, "one"), miou=0.25)
    two = take_part(machine(tmp_path, "two"), miou=0.75)
    assert files_of(one) == files_of(two)
    two.verify()
    names = sorted(store.list(NAME))
    assert names[1:] == [MANIFEST]
    assert names[0].startswith("result-")


def test_an_unfinished_run_goes_on_from_the_newest_whole_checkpoint(store, tmp_path):
    one, two = machine(tmp_path, "one"), machine(tmp_path, "two")
    preempt(one, 1e-9, (10, 20, 30))
    store.write(f"{NAME}/step-00000040.ckpt", b"cut off in the middle of its way to a store without atomic writes")
    with two.lock(), sharing(two, 0):
        assert [path.name for path in two.checkpoints()] == ["step-00000030.ckpt"]
    assert sorted(store.list(NAME)) == ["step-00000020.ckpt", "step-00000030.ckpt", "step-00000040.ckpt"]


def test_a_killed_upload_leaves_nothing_that_counts_and_another_machine_goes_on(s3, tmp_path, monkeypatch):
    """SIGKILL in the middle of a PUT."""
    monkeypatch.setenv(VARIABLE, s3)
    one = finish(machine(tmp_path, "one"), model=os.urandom(3 << 20))
    with s3_data.relaying(1 << 20) as (relay, env):
        command = [sys.executable, "-c", UPLOAD, str(one.folder.parent), NAME]
        with subprocess.Popen(command, env=os.environ | env) as process:
            assert relay.stalled.wait(60)
            assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    store = FsspecStore(s3)
    assert MANIFEST not in store.list(NAME)
    two = take_part(machine(tmp_path, "two"), miou=0.125)
    take_part(one)
    assert files_of(one) == files_of(two), "the first result that was there as a whole"
    assert len(store.list(NAME)) == 2


def test_a_process_killed_while_it_copies_into_a_folder_leaves_nothing_that_counts(folder, tmp_path):
    one = finish(machine(tmp_path, "one"), model=os.urandom(1 << 20))
    command = [sys.executable, "-c", STALL + UPLOAD, str(one.folder.parent), NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert folder.list(NAME) == {}
    take_part(one)
    assert len(folder.list(NAME)) == 2
    assert len(list((folder.root / NAME).iterdir())) == 2, "the half of a file is swept away"
    assert not [path for path in one.folder.iterdir() if path.suffix == ".tmp"]


def test_of_two_results_with_other_numbers_the_first_counts_and_it_is_said(folder, tmp_path, capsys):
    one, two = finish(machine(tmp_path, "one"), miou=0.25), finish(machine(tmp_path, "two"), miou=0.75)
    take_part(one)
    take_part(two)
    said = capsys.readouterr().err
    assert "metrics.json differ, mIoU 0.2500 there and 0.7500 here. The one there counts" in said
    assert said.count("\n") == 1
    assert files_of(two) == files_of(one)


def test_results_that_differ_in_their_calibration_are_two(folder, tmp_path, capsys):
    one, two = finish(machine(tmp_path, "one")), finish(machine(tmp_path, "two"), calibration=b"other counts")
    take_part(one)
    take_part(two)
    assert "calibration.npz differ" in capsys.readouterr().err


def test_results_that_differ_in_their_cost_alone_are_one_without_a_word(folder, tmp_path, capsys):
    one, two = finish(machine(tmp_path, "one"), seconds=1), finish(machine(tmp_path, "two"), seconds=2)
    take_part(one)
    take_part(two)
    assert capsys.readouterr().err == ""
    assert files_of(two) == files_of(one)


def test_what_is_finished_elsewhere_is_fetched_without_a_lease_and_what_is_not_is_left_alone(folder, tmp_path):
    two = machine(tmp_path, "two")
    assert not fetch_finished(two)
    assert folder.list(NAME) == {}
    one = take_part(machine(tmp_path, "one"))
    with holding(folder, NAME, "somebody"):
        assert fetch_finished(two)
    assert files_of(two) == files_of(one)


def test_a_run_that_was_finished_while_this_one_was_trained_counts(folder, tmp_path):
    one, two = machine(tmp_path, "one"), machine(tmp_path, "two")
    with two.lock(), sharing(two, 0) as put:
        FarRun(folder, finish(one, miou=0.25), 0).put_result()
        finish(two, miou=0.75)
        put()
    assert files_of(two) == files_of(one)
    assert len(folder.list(NAME)) == 2


def test_equal_results_are_put_once(folder, tmp_path):
    one = take_part(machine(tmp_path, "one"))
    before = folder.list(NAME)
    take_part(one)
    take_part(machine(tmp_path, "two"))
    assert folder.list(NAME) == before


def test_checkpoints_go_when_there_is_a_result(folder, tmp_path):
    one = machine(tmp_path, "one")
    with one.lock(), sharing(one, 1e-9) as put:
        one.saved(checkpoint(one, 10))
        assert "step-00000010.ckpt" in folder.list(NAME)
        finish(one)
        put()
    assert not [name for name in folder.list(NAME) if name.startswith(("step", "lease"))]


@pytest.mark.parametrize(("minutes", "there"), [(0, []), (60, [20])])
def test_checkpoints_are_put_as_often_as_asked_for_and_before_the_machine_goes(folder, tmp_path, minutes, there):
    one = machine(tmp_path, "one")
    preempt(one, minutes, (10, 20))
    assert list(folder.list(NAME)) == [f"step-{step:08d}.ckpt" for step in there]


def test_a_checkpoint_that_cannot_be_put_there_does_not_end_a_training(folder, tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FolderStore, "put", full)
    one = machine(tmp_path, "one")
    with one.lock(), sharing(one, 1e-9):
        one.saved(checkpoint(one, 10))
    said = capsys.readouterr().err
    assert said == "step-00000010.ckpt stays on this machine alone: [Errno 28] No space left on device\n"


def test_what_is_newer_here_is_not_fetched(folder, tmp_path):
    one, two = machine(tmp_path, "one"), machine(tmp_path, "two")
    with one.lock(), sharing(one, 1e-9):
        one.saved(checkpoint(one, 10, b"theirs"))
    mine = checkpoint(two, 20, b"mine")
    with two.lock(), sharing(two, 0):
        assert two.checkpoints() == [mine]


def test_a_run_that_another_machine_is_on_is_not_trained(folder, tmp_path, monkeypatch):
    one = machine(tmp_path, "one")
    with holding(folder, NAME, "x"):
        with pytest.raises(BusyError, match="another process is on this run"), one.lock(), sharing(one, 0):
            pytest.fail("entered")
        finish(one)
        take_part(one)  # a finished one needs nobody's leave
    assert MANIFEST in folder.list(NAME)


def test_the_others_of_a_training_wait_for_a_result_that_is_fetched(folder, tmp_path):
    take_part(machine(tmp_path, "one"))
    two = machine(tmp_path, "two")
    reader, writer = os.pipe()
    if child := os.fork():
        os.read(reader, 1)
        FarRun(folder, two, 0).fetch_result()
        assert os.waitpid(child, 0)[1] == 0
    else:
        os.write(writer, b"x")
        with sharing(two, 0, owner=False):
            os._exit(0 if two.complete else 1)


@pytest.mark.parametrize("place", [0, 40, 700, -2])
def test_no_changed_byte_is_handed_out(folder, tmp_path, place):
    take_part(machine(tmp_path, "one"))
    two = machine(tmp_path, "two")
    for path in (folder.root / NAME).iterdir():
        good = path.read_bytes()
        changed = bytearray(good)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"(result-.*\.tar|result\.json): has .*: remove"):
            take_part(two)
        path.write_bytes(good)
        assert not two.complete
    take_part(two)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", seal({"a": 1}), seal({"fingerprint": "b" * 64, "tar": "x"})],
)
def test_a_strange_list_of_a_result_is_one_line(folder, tmp_path, content):
    folder.write(f"{NAME}/{MANIFEST}", content)
    with pytest.raises(DamagedFileError, match=r"result\.json: .*: remove it there") as caught:
        take_part(machine(tmp_path, "one"))
    assert "\n" not in str(caught.value)


def test_a_result_that_cannot_be_put_there_stays_here(folder, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "there")

    one = machine(tmp_path, "one")
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "put", full)
        with pytest.raises(OSError, match="No space left"):
            take_part(one, miou=0.25)
    assert one.complete
    assert folder.list(NAME) == {}
    take_part(one)
    assert MANIFEST in folder.list(NAME)


def test_a_store_out_of_reach_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv(VARIABLE, "memory://store")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto the store")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.ls", fail)
    with pytest.raises(BenchError, match=r"RC2L_BENCH_STORE: memory://.*: ConnectionError: no route to the store"):
        take_part(machine(tmp_path, "one"))


@pytest.fixture
def checkouts(tmp_path) -> list[Path]:
    """Three checkouts, as three machines have them."""
    roots = [tmp_path / name for name in ("alone", "first", "second")]
    for root in roots:
        tiny_data.write_checkout(root, runtime={"share_minutes": 1e-9})
    return roots


def train(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the stage does; hashes of what it hands out."""
    monkeypatch.chdir(root)
    plan = Path("data/splits/tiny/1_4/seed0.json")
    main("tiny", "1_4", "baselines/mean_teacher", 0, Path("data/shards/tiny"), plan, root / "out")
    return {name: hashlib.sha256((root / "out" / name).read_bytes()).hexdigest() for name in far_runs.NUMBERS[:2]} | {
        "model": hashlib.sha256((root / "out/model.safetensors").read_bytes()).hexdigest()
    }


@pytest.mark.slow
def test_a_training_goes_on_on_another_machine_to_the_bit(checkouts, folder, monkeypatch, capsys):
    alone, first, second = checkouts
    with monkeypatch.context() as patch:
        patch.delenv(VARIABLE)
        unbroken = train(alone, patch)
    put = FarRun.offer

    def put_and_go(self: FarRun, path: Path) -> None:
        put(self, path)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(FarRun, "offer", put_and_go)
    with pytest.raises(SystemExit) as caught:
        train(first, monkeypatch)
    monkeypatch.setattr(FarRun, "offer", put)
    assert caught.value.code == PreemptedError.CONTINUE
    [there] = [path.name for path in folder.root.glob("*/*")]
    assert there.startswith("step-")
    assert train(second, monkeypatch) == unbroken
    monkeypatch.setattr(runner, "carry_out", lambda *_: pytest.fail("trained again"))
    assert train(first, monkeypatch) == unbroken
    steps = json.loads((second / "out/cost.json").read_text())["steps"]
    assert (second / "out/cost.json").read_bytes() == (first / "out/cost.json").read_bytes()
    assert steps == 12
