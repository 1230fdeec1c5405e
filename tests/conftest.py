"""What several test files share."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

# Before anything imports torch, and for the processes that tests start: nets here are too small for two threads, and
# no test looks at the internet.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import tiny_data
from hypothesis import settings
from s3_data import s3, s3_port  # noqa: F401 - fixtures
from slurm_data import jobs_checkout, slurm  # noqa: F401 - fixtures

settings.register_profile("bench", derandomize=True, database=None, deadline=None)
settings.register_profile("fuzz", settings.get_profile("bench"), derandomize=False, max_examples=2000, print_blob=True)
settings.load_profile("bench")

CAP_DAC_OVERRIDE, PR_CAPBSET_DROP, CAPABILITY_VERSION = 1, 24, 0x20080522

Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def stop_servers() -> None:
    """Ends the processes that multiprocessing keeps for the next start."""
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()


@pytest.fixture(scope="module")
def own_servers() -> Iterator[None]:
    """For tests of what starts a server: other tests have a server of another kind, or count processes."""
    stop_servers()
    yield
    stop_servers()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the tiny data set, its shards and its split built."""
    tiny_data.write_checkout(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny data set's shards; to be read only."""
    root = tmp_path_factory.mktemp("tiny")
    tiny_data.write_data(root)
    return root / "data/shards/tiny"


@pytest.fixture(scope="session")
def protocol() -> tiny_data.Protocol:
    return tiny_data.protocol()


def obey_modes() -> None:
    """Makes root obey the modes of files, like everybody else."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        libc.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
        # Containers may hand it on all the same, as one that is inherited: the third of each half of these.
        header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        sets[2] &= ~(1 << CAP_DAC_OVERRIDE)
        libc.capset(header, sets)


@pytest.fixture(scope="session")
def launch() -> Launch:
    """Runs `python -m module arguments` in a folder and waits for it; files' modes are obeyed even for root."""

    def run(module: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=cwd, env=os.environ | env, capture_output=True, text=True,
            timeout=300, preexec_fn=obey_modes,
        )  # fmt: skip

    return run
