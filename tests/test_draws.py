from __future__ import annotations

import subprocess
import sys

import torch

from rc2l_bench.draws import derive


def test_a_draw_is_the_same_for_ever():
    assert derive(0, "labelled/order", 0) == 8848604540903651270
    assert derive(12345, "augment/strong1", 678) == 8860827988832264046


def test_a_draw_is_the_same_in_another_process():
    code = "from rc2l_bench.draws import derive; print(derive(3, 'init', 4))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive(3, "init", 4)


def test_seed_stream_and_step_each_change_the_draw():
    draws = {derive(seed, stream, step) for seed in range(20) for stream in "abc" for step in range(20)}
    assert len(draws) == 20 * 3 * 20


def test_neighbouring_values_do_not_run_together():
    assert derive(1, "a", 11) != derive(11, "a", 1)
    assert derive(1, "a/1", 1) != derive(1, "a", 11)


def test_every_draw_seeds_a_torch_generator():
    for step in range(-50, 50):
        value = derive(-7, "x", step)
        assert 0 <= value < 2**63
        torch.Generator().manual_seed(value)


def test_bits_are_even():
    ones = sum(bin(derive(0, "even", step)).count("1") for step in range(2000))
    assert abs(ones / (2000 * 63) - 0.5) < 0.01
