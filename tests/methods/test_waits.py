"""How often a step of each method would make the host wait for an accelerator."""

from __future__ import annotations

import json

import pytest
import torch
from method_data import METHODS, make, make_batch, make_protocol, optimiser_of
from tiny_data import RUNTIME
from waits_data import Waits

from rc2l_bench.config import Runtime
from rc2l_bench.cost.worker import Workload
from rc2l_bench.losses import pixel_losses
from rc2l_bench.run.allocations import take_step

MATCHING = {"fetch": 1}
"""The costs of the batch, for scipy."""
TRUTH = {"number": 1, "places": 1}
"""The most regions that an image has, and where they are."""
ALLOWED: dict[str, dict[str, int]] = {
    "baselines/supervised_region": MATCHING | TRUTH,
    # One number more: of the teacher's regions.
    "baselines/rc2l_infonce": MATCHING | TRUTH | {"number": 2},
    # And one of the classes that they are merged to.
    "rc2l_bench/methods/rc2l": MATCHING | TRUTH | {"number": 3},
}
"""By method; none is allowed where a method does not stand here."""


@pytest.fixture(autouse=True)
def as_on_a_device(monkeypatch):
    """Ranks are looked up as on a device, whose numbers the host does not know."""
    monkeypatch.setattr(pixel_losses, "select_rank", pixel_losses.look_up_rank)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_no_more_than_it_must(name):
    method = make(name)
    batch, optimiser = make_batch(method), optimiser_of(method)
    take_step(method, optimiser, batch, 0.5, 0.1)  # the first one makes the optimiser's state
    with Waits() as found:
        take_step(method, optimiser, batch, 0.5, 0.1)
    assert found == ALLOWED.get(name, {})


def test_a_batch_is_made_without_waiting():
    load = Workload("baselines/unimatch", make_protocol(), Runtime.model_validate_json(json.dumps(RUNTIME)), 5, 1)
    images = load.load()
    with Waits() as found:
        load.augment(images, 3)
    # Draws are fetched and read on the host, where they were made.
    assert found["send"] == found["places"] == 0
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("wait", "kind"),
    [
        (lambda x: float(x.sum()), "number"), (lambda x: bool((x > 2).any()), "number"), (lambda x: x[x > 2], "places"),
        (lambda x: (x > 2).nonzero(), "places"), (lambda x: x.masked_fill(x > 2, 0), None),
    ],
)  # fmt: skip
def test_the_counter_sees_what_makes_a_host_wait(wait, kind):
    with Waits() as found:
        wait(torch.arange(5.0))
    assert found == ({kind: 1} if kind else {})
