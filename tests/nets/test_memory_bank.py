from __future__ import annotations

import pytest
import torch

from rc2l_bench.nets import memory_bank
from rc2l_bench.nets.memory_bank import MemoryBank, draw, nth_true


def queues(bank: MemoryBank) -> list[list[float]]:
    """The first component of every vector, oldest first."""
    out = []
    for k in range(len(bank.sizes)):
        size, added = int(bank.sizes[k]), int(bank.added[k])
        rows = [n % size for n in range(max(0, added - size), added)]
        out.append([float(bank.vectors[k, row, 0]) for row in rows])
    return out


def test_the_nth_true_of_every_row_is_found() -> None:
    mask = torch.tensor([[False, True, False, True, True], [True, False, False, False, True]])
    assert nth_true(mask, torch.tensor([[2, 0, 1], [1, 0, 1]])).tolist() == [[4, 1, 3], [4, 0, 4]]


def test_draws_reach_every_candidate_of_their_row_and_nothing_else() -> None:
    torch.manual_seed(0)
    mask = torch.rand(3, 20, generator=torch.Generator().manual_seed(1)) < 0.3
    mask[1] = False
    found = draw(mask, 500)
    assert found.shape == (3, 500)
    for k in (0, 2):
        assert set(found[k].tolist()) == set(mask[k].nonzero()[:, 0].tolist())
    assert found[1].lt(20).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_bank_is_a_queue_per_class(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not known:  # as on a device
        monkeypatch.setattr(memory_bank, "count_trues", lambda mask: [mask.shape[1]] * len(mask))
    generator = torch.Generator().manual_seed(0)
    bank, expected = MemoryBank([5, 3, 3], 2), [[], [], []]
    for _ in range(6):
        vectors = torch.rand(7, 2, generator=generator)
        mask = torch.rand(3, 7, generator=generator) < 0.4
        mask[2] = False
        bank.add(vectors, mask)
        for k in range(3):
            expected[k] = (expected[k] + [float(vectors[p, 0]) for p in range(7) if mask[k, p]])[-int(bank.sizes[k]) :]
        assert queues(bank) == expected
        assert bank.filled.tolist() == [len(queue) for queue in expected]


def test_more_vectors_than_a_queue_holds_leave_the_last_ones() -> None:
    bank = MemoryBank([3], 1)
    bank.add(torch.arange(10.0)[:, None], torch.ones(1, 10, dtype=torch.bool))
    assert queues(bank) == [[7.0, 8.0, 9.0]]


def test_samples_come_from_the_queue_that_was_asked_for_and_reach_all_of_it() -> None:
    torch.manual_seed(0)
    bank = MemoryBank([4, 4], 1)
    bank.add(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[True, True, False], [False, False, True]]))
    found = bank.sample(torch.tensor([1, 0]), 8, 5)
    assert found.shape == (2, 8, 5, 1)
    assert set(found[0].flatten().tolist()) == {3.0}
    assert set(found[1].flatten().tolist()) == {1.0, 2.0}
