"""Batch norm in two processes on one device; apart from other data of tests, because each process imports it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rc2l_bench import processes


def in_two_processes(rank: int, folder: Path, device: torch.device) -> None:
    """Batch norm over half of a batch, in one of two processes on one device, by gloo."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    norm = normed(device)
    processes.synchronise(norm)
    out = norm(features(device)[2 * rank : 2 * rank + 2])
    torch.save([out.detach().cpu(), norm.running_var.cpu()], folder / f"{rank}.pt")
    dist.destroy_process_group()


def normed(device: torch.device) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(5).to(device).train()


def features(device: torch.device) -> Tensor:
    return torch.randn(4, 5, 16, 16, generator=torch.Generator().manual_seed(3)).to(device)
