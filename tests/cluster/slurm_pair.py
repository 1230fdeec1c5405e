"""A Slurm of two nodes on this machine: all of its files in one folder, nothing of the machine's own is touched.

Debian's slurm-wlm and munge suffice. The daemons need neither systemd nor root; several can run side by side.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = ("n1", "n2")
CPUS = 2
"""Of each node, whatever the machine has."""
PATIENCE = 240.0
CONF = """
ClusterName=pair
SlurmctldHost=localhost
SlurmctldPort={controller}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=10
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=20
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10
"""
"""Jobs in `high` take the nodes from those in `low`. The credentials are short-lived, because a job that was put back
into the queue waits for as long."""


def find_fault() -> str:
    """Why there can be no pair here; empty if there can."""
    missing = [name for name in DAEMONS if _find(name) is None]
    return f"{', '.join(missing)} not found: apt-get install slurm-wlm munge" if missing else ""


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin")


@contextmanager
def open_pair(folder: Path) -> Iterator[dict[str, str]]:
    """Bring the pair up, and take it down.

    Args:
        folder: where its files go.

    Yields:
        What to add to the environment of Slurm's commands.
    """
    _write(folder)
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _start_munge(folder)
        _start("slurmctld", "-i", env=env)
        for node in NODES:
            _start("slurmd", "-N", node, env=env)
        until(lambda: idle(env) == len(NODES), lambda: _logs(folder))
        yield env
    finally:
        _cancel(env)
        for file in ("slurmd-n1", "slurmd-n2", "slurmctld", "munged"):
            _stop(folder / f"{file}.pid")


def _write(folder: Path) -> None:
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    controller, *ports = free_ports(1 + len(NODES))
    nodes = [f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} RealMemory=100000"
             for node, port in zip(NODES, ports, strict=True)]  # fmt: skip
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    text = CONF.format(folder=folder, controller=controller, user=user, nodes="\n".join(nodes))
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start_munge(folder: Path) -> None:
    names = {"socket": "sock", "key-file": "key"}
    words = [f"--{option}={folder}/munge.{suffix}" for option, suffix in names.items()]
    words += [f"--{option}={folder}/munged.{option.split('-')[0]}" for option in ("pid-file", "log-file", "seed-file")]
    _start("munged", "--force", *words)


def _start(name: str, *words: str, env: dict[str, str] | None = None) -> None:
    program = _find(name)
    assert program is not None
    done = subprocess.run([program, *words], env=os.environ | (env or {}), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{name}: {done.stderr}"


def _stop(file: Path) -> None:
    """Ends a daemon, and waits until it has ended."""
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        daemon = psutil.Process(int(file.read_text()))
        daemon.terminate()
        gone_or_zombie = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)  # whose parent looks after nobody in a container
        until(lambda: not daemon.is_running() or daemon.status() in gone_or_zombie, lambda: f"{file.stem} goes on")


def _cancel(env: dict[str, str]) -> None:
    """Ends all jobs, or their processes would outlive the daemons."""
    for how in (["--state=PENDING"], ["--signal=KILL", "--full"], []):
        subprocess.run(["scancel", "--me", *how], env=os.environ | env, check=False, capture_output=True)
    with contextlib.suppress(AssertionError):
        until(lambda: idle(env) == len(NODES), lambda: "", 30)


def idle(env: dict[str, str]) -> int:
    """Nodes on which nothing runs."""
    done = subprocess.run(["sinfo", "-h", "-N", "-p", "low", "-t", "idle"], env=os.environ | env, capture_output=True,
                          text=True)  # fmt: skip
    return len(done.stdout.splitlines())


def until(true: Callable[[], bool], told: Callable[[], str], patience: float = PATIENCE) -> None:
    """Waits; fails with what is told when it takes too long."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


def _logs(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.log"))
