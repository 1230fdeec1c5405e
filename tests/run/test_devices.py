"""The checks of `make gpu`, carried out by the CPU at the smallest size: do they work, and can they fail?"""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing as mp
from device_data import (
    CPU,
    compare_precisions,
    count,
    images_per_second,
    learn,
    moved_share,
    peak_against_estimate,
    state_bytes,
)
from method_data import CLASSES, make, make_protocol
from norm_data import features, in_two_processes, normed


@pytest.fixture(scope="module")
def learnt():
    return [learn("baselines/supervised", CPU, 3) for _ in range(2)]


def test_twice_the_same_steps_give_the_same_bytes(learnt):
    assert state_bytes(learnt[0][0]) == state_bytes(learnt[1][0])
    assert learnt[0][2] == set()
    assert state_bytes(learnt[0][0]) != state_bytes(make("baselines/supervised"))


def test_reduced_precision_keeps_near_to_full_precision():
    assert 0 < compare_precisions("baselines/supervised_region", CPU, "bf16-mixed", 10) < 0.1


def test_counts_of_one_network_are_equal_and_of_another_are_not(learnt):
    found = count(learnt[0][0], CPU)
    assert moved_share(found, count(learnt[1][0], CPU)) == 0
    assert moved_share(found, count(make("baselines/supervised", seed=8), CPU)) > 0.001


def test_the_peak_is_near_its_estimate():
    protocol = make_protocol(crop=[96, 96], optimiser__name="adamw")
    assert peak_against_estimate("baselines/supervised", protocol, CLASSES, CPU) == pytest.approx(1, rel=0.1)


def test_augmentation_is_timed_alone():
    assert images_per_second(make_protocol(), CPU, 2) > 1


@pytest.mark.slow
def test_two_processes_on_one_device_normalise_like_one(tmp_path):
    mp.spawn(in_two_processes, (tmp_path, CPU), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    norm = normed(CPU)
    torch.testing.assert_close(torch.cat([out for out, _ in found]), norm(features(CPU)).detach())
    torch.testing.assert_close(found[0][1], norm.running_var)
