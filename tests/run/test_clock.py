"""Times of parts: on the CPU at once, on a device that works ahead when it has come so far."""

from __future__ import annotations

import pytest
import torch

from rc2l_bench.run.clock import STEP, Clock
from rc2l_bench.run.record import Record


class Device:
    """Does a second of work for each thing it is given, whenever it is told to go on."""

    def __init__(self) -> None:
        self.given, self.done = 0, 0

    def moment(self) -> Moment:
        return Moment(self)


class Moment:
    def __init__(self, device: Device) -> None:
        self.device = device

    def record(self) -> None:
        self.at = self.device.given

    def query(self) -> bool:
        return self.device.done >= self.at

    def synchronize(self) -> None:
        self.device.done = max(self.device.done, self.at)

    def elapsed_time(self, end: Moment) -> float:
        assert self.query()
        assert end.query()
        return 1000.0 * (end.at - self.at)


def step(clock: Clock, device: Device) -> None:
    with clock.time(STEP):
        for part, work in (("forward", 2), ("backward", 3)):
            with clock.time(part):
                device.given += work
        device.given += 1


def test_a_step_does_not_wait_for_its_clock():
    device, record = Device(), Record()
    clock = Clock(torch.device("cpu"), device.moment)
    step(clock, device)
    clock.read(record, wait=False)
    assert device.done == 0
    assert record == Record()


def test_what_is_over_is_noted_and_the_rest_later():
    device, record = Device(), Record()
    clock = Clock(torch.device("cpu"), device.moment)
    for _ in range(2):
        step(clock, device)
    device.done = 8  # the first step, and the forward pass of the second
    clock.read(record, wait=False)
    assert record.step_seconds == [6.0]
    assert (record.part_seconds["forward"], record.part_seconds["backward"]) == (4.0, 3.0)
    clock.read(record, wait=True)
    assert record.step_seconds == [6.0, 6.0]
    assert record.part_seconds["backward"] == 6.0
    clock.read(record, wait=True)
    assert record.step_seconds == [6.0, 6.0]


def test_what_ends_in_an_exception_is_not_noted():
    record, clock = Record(), Clock(torch.device("cpu"))
    with pytest.raises(KeyError), clock.time(STEP), clock.time("data"):
        raise KeyError
    clock.read(record, wait=True)
    assert record == Record()


def test_on_the_cpu_times_are_there_at_once():
    record, clock = Record(), Clock(torch.device("cpu"))
    with clock.time(STEP), clock.time("data"):
        pass
    clock.read(record, wait=False)
    assert 0 < record.part_seconds["data"] < record.step_seconds[0]
