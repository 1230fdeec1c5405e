"""Describe and set up what a run is carried out on: device, precision, processes, memory."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from rc2l_bench.config import Runtime
from rc2l_bench.errors import BenchError, UsageError

USEFUL_WORKERS = 8
"""That `auto` starts; our choice. Eight decode more than a GPU of today takes from crops of this size."""


def hardware(device: torch.device) -> dict[str, Any]:
    """Describe processor, cores, memory, and the GPU where there is one, for run.json."""
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "cpu": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total >> 20,
        "device": device.type,
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    """Name the processor as its maker does; as the system does where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def commit() -> str | None:
    """Find the commit of the checkout.

    Returns:
        40 hex digits, with `+` when tracked files differ from it; None outside of git.
    """
    # `--exclude` leaves out all tags, which would come first otherwise. A timeout, because git may wait for a network
    # disk, and a result must not be lost for the sake of a remark.
    git = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def peak_memory(device: torch.device) -> dict[str, float]:
    """Read the peaks of this process since its start.

    Args:
        device: that was computed on.

    Returns:
        MiB: `resident_mb`, and on CUDA `allocated_mb` and `reserved_mb`, as torch counts.
    """
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if device.type == "cuda":
        peaks["allocated_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
        peaks["reserved_mb"] = torch.cuda.max_memory_reserved(device) / 2**20
    return peaks


def keep_memory() -> None:
    """Let glibc keep freed memory for the next step instead of giving it back: fewer page faults, equal numbers.

    Activations of a step are freed and allocated again at the same sizes in the next one. Left to itself, glibc gives
    large blocks back, and the kernel hands them out again page by page, filled with zeros.
    """
    trim_threshold, mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 32 << 20)  # the most that glibc takes
        libc.mallopt(trim_threshold, 1 << 30)
    except (OSError, AttributeError):
        return  # Not glibc: slower, nothing else.


def choose_launcher() -> ClusterEnvironment:
    """Choose who starts the processes of a training: torchrun where it did, else this process.

    Left to itself, Fabric takes any Slurm variable for a launch by srun and waits for processes that nobody starts.

    Raises:
        UsageError: srun has started the same training several times.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if (copies := int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        raise UsageError(
            f"srun has started {copies} copies of this training: start one, srun --ntasks=1, and it starts as many "
            "processes as runtime.devices says"
        )
    return LightningEnvironment()


def spread(devices: int) -> tuple[int, int]:
    """Tell how the processes of a training lie on machines.

    Args:
        devices: processes that params.yaml asks for.

    Returns:
        Processes on this machine, and machines: as torchrun says, where it has started them; else all are here.
    """
    if TorchElasticEnvironment.detect():
        return int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    return devices, 1


def count_workers(runtime: Runtime, device: torch.device) -> int:
    """Count the loader processes of one process of a training.

    Args:
        runtime: what params.yaml asks for; `auto` shares the cores that this process may use among the processes of
            the training on this machine, takes off the threads that compute (one where a GPU does), and stops at
            `USEFUL_WORKERS`.
        device: that is computed on.
    """
    if runtime.workers != "auto":
        return runtime.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    computing = runtime.threads if device.type == "cpu" else 1
    return min(max(0, cores // spread(runtime.devices)[0] - computing), USEFUL_WORKERS)


def open_fabric(runtime: Runtime) -> Fabric:
    """Open device and precision, and start further processes, each of which runs the program from its start.

    Args:
        runtime: what params.yaml asks for; `auto` takes CUDA where there is any.

    Raises:
        UsageError: the machine does not have what params.yaml asks for.
        BenchError: another number of processes was started.
    """
    device = runtime.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    here, machines = spread(runtime.devices)
    if device == "cuda" and torch.cuda.device_count() < here:
        raise UsageError(f"runtime: {here} CUDA devices wanted, {torch.cuda.device_count()} are here")
    if device == "cpu" and runtime.precision == "16-mixed":
        raise UsageError("runtime.precision: 16-mixed needs CUDA; on the CPU use 32-true or bf16-mixed")
    keep_memory()  # before any tensor is allocated
    torch.set_num_threads(runtime.threads)
    # Only a warning where torch has no deterministic kernel: the run is then merely not repeatable to the bit. New
    # memory is not filled with NaN, as torch does in this mode: a pass over all of it, for code that reads before it
    # writes.
    torch.use_deterministic_algorithms(runtime.deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device == "cuda" and runtime.deterministic:
        # cuBLAS reads this when its first handle is made, later it is too late.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # A method may leave a branch out for some steps (a warm-up), so that its parameters get no gradient there. Buffers
    # are equal in all processes, because batch norm and memories look at all of them.
    ddp = DDPStrategy(find_unused_parameters=True, forward_sync_buffers=False)
    strategy = ddp if runtime.devices > 1 else "auto"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device, devices=here, num_nodes=machines, precision=runtime.precision,
        strategy=strategy, plugins=[choose_launcher()],
    )  # fmt: skip
    fabric.launch()
    if fabric.world_size != runtime.devices:
        raise BenchError(f"runtime.devices: {runtime.devices} processes wanted, {fabric.world_size} were started")
    return fabric
