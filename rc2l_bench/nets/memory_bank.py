"""Keep a memory of feature vectors per class, without loops over pixels (U2PL, Wang et al., CVPR 2022)."""

from __future__ import annotations

import torch
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


def nth_true(mask: Tensor, number: Tensor) -> Tensor:
    """Find the n-th True of every row, without making a host wait to be told how many there are.

    Args:
        mask: (K, P) bool.
        number: (K, n) int64, 0 = the first one.

    Returns:
        (K, n) int64, columns in 0..P - 1; any column where a row has fewer.
    """
    # Up to its column, as many are True as its number says.
    return torch.searchsorted(mask.cumsum(1), number + 1).clamp(max=mask.shape[1] - 1)


def bound_trues(mask: Tensor) -> list[int]:
    """Bound how many are True in every row of (K, P): as many as there are where the host knows them, else all."""
    return count_trues(mask) if mask.device.type == "cpu" else [mask.shape[1]] * len(mask)


def count_trues(mask: Tensor) -> list[int]:
    """Count what is True in every row of (K, P); a device has to be waited for."""
    counts: list[int] = mask.sum(1).tolist()
    return counts


def draw(mask: Tensor, count: int) -> Tensor:
    """Draw columns with replacement from those that are True; all processes draw the same.

    Args:
        mask: (K, P) bool, equal in all processes.
        count: draws per row.

    Returns:
        (K, count) int64; any column for a row without a True.
    """
    return nth_true(mask, nth(rand(len(mask), count, device=mask.device), mask.sum(1, keepdim=True)))


class MemoryBank(nn.Module):
    """First-in-first-out memory, one queue per class, all in one tensor that is part of the state.

    Every process holds the same memory: vectors of all processes go in, in the same order, and `draw` and `sample` draw
    the same everywhere.

    Attributes:
        vectors: (K, size, D) float32; vector n of class k lies in row n modulo its capacity.
        added: (K,) int64; how many vectors each class was ever given.
        capacities: capacity of each queue.
        sizes: (K,) int64; the same, on the device.
    """

    vectors: Tensor
    added: Tensor
    sizes: Tensor

    def __init__(self, sizes: list[int], dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(len(sizes), max(sizes), dim))
        self.register_buffer("added", torch.zeros(len(sizes), dtype=torch.int64))
        self.capacities = sizes
        # They come from the configuration; a checkpoint must not bring others.
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
        after = self.added + mask.sum(1)
        for k, (size, most) in enumerate(zip(self.capacities, bound_trues(mask), strict=True)):
            # The newest, were as many put in as could be and the queue has room for: they lie in rows of their own.
            # Which of them are new only the device knows; the rows of the others stay.
            number = after[k] - torch.arange(1, min(size, most) + 1, device=mask.device)
            row, new = number % size, number >= self.added[k]
            column = nth_true(mask[k : k + 1], (number - self.added[k])[None])[0]
            kept = self.vectors[k]
            kept[row] = vectors[column].to(kept.dtype).where(new[:, None], kept[row])
        self.added.copy_(after)

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
