from __future__ import annotations

import torch

from rc2l_bench.data.randomness import Draws


def draws(rows: slice = slice(0, 1000), step: int = 0) -> Draws:
    return Draws(3, "test", step, 1000, rows)


def test_numbers_are_uniform_between_their_bounds():
    found = draws().uniform(2, 4, 3)
    assert found.shape == (1000, 3)
    assert found.min() >= 2
    assert found.max() < 4
    assert abs(found.mean() - 3) < 0.05


def test_half_of_log_uniform_numbers_lie_below_the_geometric_mean():
    found = draws().log_uniform(0.25, 4)
    assert abs((found < 1).float().mean() - 0.5) < 0.05


def test_rows_are_chosen_with_their_probability():
    found = draws().chosen(0.3)
    assert (found.dtype, found.shape) == (torch.bool, (1000,))
    assert abs(found.float().mean() - 0.3) < 0.05
    assert not draws().chosen(0.0).any()
    assert draws().chosen(1.0).all()


def test_a_process_gets_its_rows_of_what_all_draw():
    whole, part = draws(), draws(slice(250, 500))
    for _ in range(2):
        assert torch.equal(part.uniform(0, 1, 2), whole.uniform(0, 1, 2)[250:500])
    assert torch.equal(part.chosen(0.5), whole.chosen(0.5)[250:500])


def test_steps_draw_other_numbers_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    assert not torch.equal(draws().uniform(0, 1), draws(step=1).uniform(0, 1))
    assert torch.equal(torch.get_rng_state(), before)
