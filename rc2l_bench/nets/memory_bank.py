"""Keep a memory of feature vectors per class, without loops over pixels (U2PL, Wang et al., CVPR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.processes import rand


def nth(unit: Tensor, count: Tensor) -> Tensor:
    """Turn uniform numbers into uniform integers.

    Args:
        unit: float32 in [0, 1).
        count: int64 >= 0, broadcast against `unit`.

    Returns:
        int64 in 0..count - 1; 0 where the count is 0.
    """
    # The product of float32 can round up to the count itself, which the minimum takes back.
    return (unit * count).long().minimum(count - 1).clamp(min=0)


def draw(mask: Tensor, count: int) -> Tensor:
    """Draw columns with replacement from those that are True; all processes draw the same.

    Args:
        mask: (K, P) bool, equal in all processes.
        count: draws per row.

    Returns:
        (K, count) int64; any column for a row without a True.
    """
    true = mask.sum(1, keepdim=True)
    # `nonzero` lists the Trues row by row, so those of row k begin where the Trues of the rows before it end. The pad
    # is for rows without any at the very end, which would look one place beyond the list.
    columns = F.pad(mask.nonzero()[:, 1], (0, 1))
    return columns[true.cumsum(0) - true + nth(rand(len(mask), count, device=mask.device), true)]


class MemoryBank(nn.Module):
    """First-in-first-out memory, one queue per class, all in one tensor that is part of the state.

    Every process holds the same memory: vectors of all processes go in, in the same order, and `draw` and `sample` draw
    the same everywhere.

    Attributes:
        vectors: (K, size, D) float32; vector n of class k lies in row n modulo its capacity.
        added: (K,) int64; how many vectors each class was ever given.
        sizes: (K,) int64; capacity of each queue.
    """

    vectors: Tensor
    added: Tensor
    sizes: Tensor

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(len(sizes), max(sizes), dim))
        self.register_buffer("added", torch.zeros(len(sizes), dtype=torch.int64))
        # Capacities come from the configuration; a checkpoint must not bring others.
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)

    @property
    def filled(self) -> Tensor:
        """Number of vectors that each queue holds, (K,) int64."""
        return self.added.minimum(self.sizes)

    @torch.no_grad()
    def add(self, vectors: Tensor, mask: Tensor) -> None:
        """Put vectors into queues, where they push out the oldest.

        Args:
            vectors: (P, D) float, of all processes.
            mask: (K, P) bool; which vectors go into the queue of which class.
        """
        order = mask.cumsum(1) - 1
        # Of more vectors than a queue holds only the last are written: with two writes to one row, which of them stays
        # is undefined on CUDA.
        last = mask & (order > order[:, -1:] - self.sizes[:, None])
        k, p = last.nonzero(as_tuple=True)
        self.vectors[k, (self.added[k] + order[k, p]) % self.sizes[k]] = vectors[p].to(self.vectors.dtype)
        self.added += order[:, -1] + 1

    def sample(self, k: Tensor, *size: int) -> Tensor:
        """Draw vectors with replacement; all processes draw the same.

        Args:
            k: (n,) int64; classes whose queues to draw from.
            size: shape of the draws per queue.

        Returns:
            (n, *size, D) float32; zeros where a queue is empty.
        """
        queue = k.view(-1, *[1] * len(size))
        return self.vectors[queue, nth(rand(len(k), *size, device=k.device), self.filled[queue])].float()
