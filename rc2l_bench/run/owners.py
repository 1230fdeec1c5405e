"""Who works on a run: a process of a host, perhaps as a part of a job, and whether it is still there."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path
from typing import Any

import psutil

from rc2l_bench.files import host_id
from rc2l_bench.schema import Model

JOB, ATTEMPT = "RC2L_BENCH_JOB", "RC2L_BENCH_ATTEMPT"
"""What an engine without such variables of its own says of a process: the name of its job, and how often that had been
started before."""


class Owner(Model):
    """A process that holds a lease."""

    host: str
    """Name of the machine, for messages."""
    place: str
    """Where `pid` is a number of its own: a host since it was started, or a container on it."""
    pid: int
    born: float
    """When the process began, seconds since 1970; with `pid` it names a process for good."""
    job: str
    """Of the scheduler, `77_4`; empty outside of one."""
    attempt: int
    """How often the scheduler had started the job before; it starts none again before the former one is gone."""

    def is_gone(self) -> bool:
        """Whether it surely has ended; a process of another machine may have without anybody knowing."""
        if self.place == _place():
            return not lives(self.pid, self.born)
        job, attempt = job_of_this_process()
        return job != "" and job == self.job and self.attempt < attempt

    def describe(self) -> str:
        """Name it in a few words."""
        return f"{self.host}, process {self.pid}{f', job {self.job}' if self.job else ''}"


def this_process() -> Owner:
    """The process that asks."""
    job, attempt = job_of_this_process()
    return Owner(**describe_process(), place=_place(), job=job, attempt=attempt)


@functools.cache
def _place() -> str:
    # Names of hosts are not always different, `localhost` for instance.
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{host_id()} {boot.read_text().strip() if boot.is_file() else ''}"


def describe_process() -> dict[str, Any]:
    """Say which process this is: `host`, `pid` and `born`."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def job_of_this_process() -> tuple[str, int]:
    """Name the job that this process is a part of, empty for none, and how often it had been started before."""
    if own := os.environ.get(JOB, ""):  # inside of a job of Slurm, perhaps
        return own, int(os.environ[ATTEMPT])
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "")
    task, count = os.environ.get("SLURM_ARRAY_TASK_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "")
    return f"{job}_{task}" if job and task else job, int(count) if count.isdecimal() else 0


def lives(pid: int, born: float) -> bool:
    """Tell whether a process of this machine is there and is the same one: numbers of processes are used again."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - born) < 1
    except psutil.Error:
        return False
