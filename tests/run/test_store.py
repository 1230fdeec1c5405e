from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from running_data import ended

from rc2l_bench.errors import BenchError
from rc2l_bench.files import temporary_name
from rc2l_bench.readers import DamagedFileError
from rc2l_bench.run.store import Run
from rc2l_bench.seals import FILES, RECORD, list_files, seal

CPU = torch.device("cpu")

HOLD = """
import sys, time
from pathlib import Path
from rc2l_bench.run.store import Run
with Run(Path(sys.argv[1]), "f").lock():
    print("held", flush=True)
    time.sleep(60)
"""


def state(step: int) -> dict:
    tensor = torch.randn(50, 50, generator=torch.Generator().manual_seed(step))
    return {
        "step": step,
        "method": {"a": tensor, "b": torch.tensor(step)},
        "record": {"list": [(1, 0.5)], "none": None},
    }


def newest(run: Run) -> Path:
    return sorted(run.folder.glob("*.ckpt"))[-1]


def step_of(run: Run) -> int | None:
    found = run.load(CPU)
    return found["step"] if found else None


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "runs", "f")


@pytest.fixture
def saved(run) -> Run:
    for step in (10, 20, 30):
        run.save(step, state(step))
    return run


def test_a_run_that_has_not_begun_has_no_checkpoint(run):
    assert run.load(CPU) is None
    assert not run.complete
    assert not run.folder.exists()


def test_the_newest_checkpoint_is_loaded_as_it_was_saved(saved):
    found, wanted = saved.load(CPU), state(30)
    assert torch.equal(found["method"]["a"], wanted["method"]["a"])
    assert found["method"]["b"] == 30
    assert found["record"] == wanted["record"]


def test_two_checkpoints_are_kept(saved):
    assert sorted(file.name for file in saved.folder.iterdir()) == ["step-00000020.ckpt", "step-00000030.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(saved, share):
    path = newest(saved)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert step_of(saved) == 20
    assert not path.exists()


@pytest.mark.parametrize("place", [0, 31, 32, 100, -1])
def test_a_flipped_bit_falls_back_to_the_checkpoint_before(saved, place):
    path = newest(saved)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert step_of(saved) == 20


def test_when_all_checkpoints_are_damaged_the_run_begins_again(saved):
    for path in saved.folder.glob("*.ckpt"):
        path.write_bytes(b"x" * 100)
    assert step_of(saved) is None
    assert not list(saved.folder.glob("*.ckpt"))


def test_a_foreign_pickle_is_not_executed(run, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    content = pickle.dumps(Evil(), protocol=2)
    run.folder.mkdir(parents=True)
    (run.folder / "step-00000001.ckpt").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(BenchError, match="not a checkpoint of this suite"):
        run.load(CPU)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(60)])
def test_a_checkpoint_whose_hash_fits_but_not_its_content_is_one_line(run, content):
    run.folder.mkdir(parents=True)
    (run.folder / "step-00000001.ckpt").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(
        BenchError, match=r"step-00000001\.ckpt: .*: not a checkpoint of this suite, remove it"
    ) as caught:
        run.load(CPU)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_cannot_be_written_leaves_the_others_alone(saved, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved.save(40, state(40))
    monkeypatch.undo()
    assert step_of(saved) == 30
    assert len(list(saved.folder.iterdir())) == 2


@pytest.fixture
def left(saved, monkeypatch) -> Run:
    """A run with a checkpoint and a result that a process was writing when it was killed."""
    gone = ended()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: gone)
        checkpoint, result = map(temporary_name, (saved.folder / "step-00000040.ckpt", saved.result))
    checkpoint.write_bytes(b"half")
    result.mkdir()
    (result / "metrics.json").touch()
    return saved


def test_what_a_killed_process_left_is_not_taken_for_a_checkpoint(left):
    assert step_of(left) == 30


def test_what_a_killed_process_left_is_swept_away(left):
    saved = left
    with saved.lock():
        names = sorted(path.name for path in saved.folder.iterdir())
    assert names == ["lease-000001.json", "lock", "step-00000020.ckpt", "step-00000030.ckpt"]


@contextmanager
def held(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process is on the run."""
    root = str(run.folder.parent)
    with subprocess.Popen([sys.executable, "-c", HOLD, root], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(scope="module")
def taken(tmp_path_factory) -> Iterator[Run]:
    """A run that another process is on."""
    run = Run(tmp_path_factory.mktemp("taken"), "f")
    with held(run):
        yield run


def test_a_second_process_is_told_that_the_run_is_taken(taken):
    with pytest.raises(BenchError, match="another process is on this run"), taken.lock():
        pytest.fail("entered")


def test_the_other_processes_of_the_same_training_pass_the_lock(taken):
    with taken.lock(owner=False), pytest.raises(BenchError, match="another process"), taken.lock():
        pass


def test_other_runs_are_not_locked(taken):
    other = Run(taken.folder.parent, "g")
    with other.lock():
        assert (other.folder / "lock").is_file()


def test_a_killed_process_does_not_hold_its_lock(run):
    with held(run) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run.lock():
            assert process.returncode == -signal.SIGKILL


def pass_every_flock(*_: object) -> None:
    """What flock is to two nodes of a file system that keeps it local."""


def have_no_flock(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize("flock", [pass_every_flock, have_no_flock])
def test_a_run_is_locked_where_flock_is_local_to_a_node_or_missing(run, monkeypatch, flock):
    monkeypatch.setattr("fcntl.flock", flock)
    with run.lock():
        with pytest.raises(BenchError, match=f"another process is on this run .*process {os.getpid()}"), run.lock():
            pytest.fail("entered")
        assert "lease-000001.json" in [path.name for path in run.folder.iterdir()]
    with run.lock():
        pass


def test_the_lock_is_released_after_an_error(run):
    with pytest.raises(ValueError, match="x"), run.lock():
        raise ValueError("x")
    with run.lock():
        pass


def write_result(folder: Path, fingerprint: str = "f") -> None:
    (folder / "metrics.json").write_text("{}")
    (folder / "panels").mkdir()
    (folder / "panels/0.png").write_bytes(b"png")
    (folder / RECORD).write_bytes(seal({"fingerprint": fingerprint, FILES: list_files(folder)}))


def test_a_finished_run_is_complete_and_has_no_checkpoints(saved):
    saved.finish(write_result)
    assert saved.complete
    assert [path.name for path in saved.folder.iterdir()] == ["result"]


def test_a_result_that_cannot_be_written_leaves_the_checkpoints(saved):
    def fail(folder: Path) -> None:
        write_result(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        saved.finish(fail)
    assert not saved.complete
    assert step_of(saved) == 30
    assert sorted(path.name for path in saved.folder.iterdir()) == ["step-00000020.ckpt", "step-00000030.ckpt"]


def test_materialising_copies_the_result(saved, tmp_path):
    saved.finish(write_result)
    saved.materialise(tmp_path / "a/b/out")
    assert (tmp_path / "a/b/out/panels/0.png").read_bytes() == b"png"
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["out"]


def test_materialising_replaces_what_was_there(saved, tmp_path):
    (tmp_path / "out/old").mkdir(parents=True)
    saved.finish(write_result)
    saved.materialise(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "panels", "run.json"]


def test_changing_the_copy_leaves_the_result_alone(saved, tmp_path):
    saved.finish(write_result)
    saved.materialise(tmp_path / "out")
    (tmp_path / "out/metrics.json").write_text("changed")
    assert (saved.result / "metrics.json").read_text() == "{}"


def test_materialising_that_fails_leaves_the_old_files(saved, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    saved.finish(write_result)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        saved.materialise(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]


def test_no_flipped_bit_of_a_result_is_handed_out(saved, tmp_path):
    saved.finish(write_result)
    (tmp_path / "out").mkdir()
    for path in sorted(path for path in saved.result.rglob("*") if path.is_file()):
        good = path.read_bytes()
        for place in range(len(good)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(DamagedFileError, match=rf"{path.name}: .*: delete .*result to train this run again"):
                saved.materialise(tmp_path / "out")
        path.write_bytes(good)
    assert list((tmp_path / "out").iterdir()) == []
    saved.materialise(tmp_path / "out")


def test_a_result_without_one_of_its_files_is_not_handed_out(saved, tmp_path):
    saved.finish(write_result)
    (saved.result / "panels/0.png").unlink()
    with pytest.raises(DamagedFileError, match=r"0\.png: is missing: delete"):
        saved.materialise(tmp_path / "out")


def test_the_result_of_another_run_is_not_handed_out(saved, tmp_path):
    saved.finish(lambda folder: write_result(folder, "g"))
    with pytest.raises(DamagedFileError, match=r"run\.json: belongs to another run"):
        saved.materialise(tmp_path / "out")
