"""How often a step of each method would make the host wait for an accelerator."""

from __future__ import annotations

import json

import pytest
import torch
from method_data import METHODS, ROOT, make, make_batch, make_learned, make_protocol, optimiser_of
from tiny_data import RUNTIME
from torch.utils._python_dispatch import TorchDispatchMode
from waits_data import Waits

from rc2l_bench.config import Runtime
from rc2l_bench.cost.worker import Workload
from rc2l_bench.losses import matching, pixel_losses
from rc2l_bench.losses.matching import Fetch
from rc2l_bench.nets import memory_bank
from rc2l_bench.run.allocations import take_step

MATCHING = {"fetch": 1}
"""The costs of the batch, labelled and unlabelled images and all layers, for scipy."""
ALLOWED: dict[str, dict[str, int]] = dict.fromkeys(
    ("baselines/supervised_region", "baselines/rc2l_infonce", "rc2l_bench/methods/rc2l"), MATCHING
)
"""By method; none is allowed where a method does not stand here."""


@pytest.fixture(autouse=True)
def as_on_a_device(monkeypatch):
    """Ranks and bounds are found as on a device, whose numbers the host does not know."""
    monkeypatch.setattr(pixel_losses, "select_rank", pixel_losses.look_up_rank)
    monkeypatch.setattr(memory_bank, "count_trues", lambda mask: [mask.shape[1]] * len(mask))


def waits_of_a_step(method):
    batch, optimiser = make_batch(method), optimiser_of(method)
    take_step(method, optimiser, batch, 0.5, 0.1)  # the first one makes the optimiser's state
    with Waits() as found:
        take_step(method, optimiser, batch, 0.5, 0.1)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_step_waits_for_no_more_than_it_must(name):
    assert waits_of_a_step(make(name)) == ALLOWED.get(name, {})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("rc2l_bench/methods/rc2l", {"regions": "query", "threshold": 0.0, "union": "any"}),
        ("baselines/rc2l_infonce", {"regions": "query", "threshold": 0.0}),
        ("baselines/u2pl", {"variant": "as_published"}),
    ],
)
def test_no_choice_makes_a_step_wait_more_often(name, changes):
    assert waits_of_a_step(make(name, changes)) == ALLOWED.get(name, {})


class Record(TorchDispatchMode):
    """What is given to a device, and what the host does, in their order."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.done = []
        for name in ("__init__", "wait"):
            self.note(monkeypatch, Fetch, name, lambda *_, name=name: name)
        self.note(monkeypatch, matching, "assign", lambda cost, _: f"match {cost.shape[1]} layers")

    def note(self, monkeypatch, owner, name, text):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: self.done.append(text(*given)) or function(*given))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.done.append(func._schema.name)
        return func(*args, **(kwargs or {}))

    def between(self, first, last):
        return self.done[self.done.index(first) : self.done.index(last)]


@pytest.mark.parametrize("name", ["rc2l_bench/methods/rc2l", "baselines/rc2l_infonce"])
def test_the_device_has_work_while_the_host_matches(name, monkeypatch):
    method = make_learned(name, {"threshold": 0.0})
    batch = make_batch(method)
    with Record(monkeypatch) as record:
        method(batch, 0.9)
    # The masks, which need no match.
    assert "aten::bmm" in record.between("__init__", "wait")
    # What contrasts masks and features needs the match of the unlabelled images, and no other.
    assert record.between("match 1 layers", "match 2 layers").count("aten::bmm") >= 3


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


@pytest.mark.parametrize(
    ("copy", "kind"),
    [
        ("x.cpu()", "fetch"), ("x.to('cpu')", "fetch"), ("x.tolist()", "fetch"), ("x.to(x.device)", "send"),
        ("x.to(x.device, non_blocking=True)", None),
    ],
)  # fmt: skip
def test_the_counter_sees_copies_that_the_project_waits_for(copy, kind):
    code = compile(copy, str(ROOT / "rc2l_bench/a_module.py"), "eval")
    with Waits() as found:
        eval(code, {"x": torch.arange(5.0)})
    assert found == ({kind: 1} if kind else {})
