"""Levers: learning in parts, computing activations again, compiled networks. Do they learn the same?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric
from method_data import ADDING_UP, make, make_batch, make_protocol
from tiny_data import RUNTIME
from torch import nn

from rc2l_bench.config import NO_LEVERS, Runtime
from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import Method
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.levers import check_levers, network_parts
from rc2l_bench.run.train import Trainer
from rc2l_bench.types import IGNORE, Batch

PROGRESS = 0.5


def runtime(**levers) -> Runtime:
    return Runtime.model_validate_json(json.dumps(RUNTIME | {"levers": NO_LEVERS.model_dump() | levers}))


@pytest.fixture(scope="module")
def fabric() -> Iterator[Fabric]:
    yield open_fabric(runtime())
    torch.use_deterministic_algorithms(False)


class FrozenNorm(nn.BatchNorm2d):
    """Normalises by its running statistics also in training: what batch norm sees of a part is not in question here."""

    def forward(self, x):
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False)


def freeze(method: Method) -> Method:
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = FrozenNorm
    return method


def uneven(method: Method) -> Batch:
    """A batch whose images differ in how many pixels count."""
    batch = make_batch(method)
    label, valid = batch.label.clone(), batch.valid.clone()
    label[0, 8:] = IGNORE
    valid[:1, :20] = False
    return replace(batch, label=label, valid=valid)


def gradients(fabric: Fabric, method: Method, batch: Batch, **levers) -> tuple[dict, dict]:
    """Losses, and gradients by parameter, of one pass over a batch in the trainer's own way."""
    trainer = Trainer(fabric, method, make_protocol(), runtime(**levers), 0)
    trainer.model.train()
    torch.manual_seed(0)
    losses = trainer.passes.carry_out(batch, PROGRESS)
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    return {name: float(value) for name, value in losses.items()}, found


@pytest.mark.parametrize(("name", "parts"), [*((name, 2) for name in ADDING_UP), ("baselines/supervised", 4)])
def test_parts_add_up_to_the_batch(fabric, name, parts):
    changes = {"threshold": 0.3} if name == "baselines/fixmatch" else {}
    whole, divided = (freeze(make(name, changes)) for _ in range(2))
    batch = uneven(whole)
    losses, wanted = gradients(fabric, whole, batch)
    in_parts, found = gradients(fabric, divided, batch, accumulate=parts)
    assert list(in_parts) == list(losses)
    assert in_parts == pytest.approx(losses, rel=1e-5)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_a_mean_of_means_would_not_add_up(fabric):
    """Twin of the test above: the parts differ in their pixels."""
    method = freeze(make("baselines/supervised"))
    batch = uneven(method)
    losses, _ = gradients(fabric, method, batch)
    parts = [replace(batch, image=batch.image[rows], label=batch.label[rows]) for rows in (slice(2), slice(2, 4))]
    means = [float(method(part, PROGRESS)["supervised"].detach()) for part in parts]
    assert abs(sum(means) / 2 - losses["supervised"]) > 1e-3


@pytest.mark.parametrize(
    ("name", "protocol", "parts", "reason"),
    [
        ("rc2l_bench/methods/rc2l", {}, 2, "not every loss of RC2L is one mean over pixels that the batch alone tells"),
        ("baselines/u2pl", {}, 2, "not every loss of U2PL is one mean over pixels"),
        ("baselines/fixmatch", {"supervised_loss": "ohem"}, 2, "ohem ranks the pixels of a whole batch"),
        ("baselines/fixmatch", {}, 4, "1 processes cannot divide batches of 4 . 4 images into equal parts"),
        ("baselines/supervised", {}, 3, "cannot divide batches"),
    ],
)
def test_parts_that_would_not_add_up_are_refused_with_the_reason(name, protocol, parts, reason):
    levers = NO_LEVERS.model_copy(update={"accumulate": parts})
    with pytest.raises(UsageError, match=rf"^runtime\.levers\.accumulate: {parts}: .*{reason}"):
        check_levers(make(name, **protocol), make_protocol(**protocol), levers)


@pytest.mark.parametrize(
    ("name", "backbone"), [("baselines/unimatch", "test_resnet"), ("baselines/supervised_region", "mobilenetv2_100")]
)
def test_activations_that_are_computed_again_give_the_same_gradients_and_statistics(fabric, name, backbone):
    kept, again = (make(name, net__backbone=backbone, net__pixel__dropout=0.2) for _ in range(2))
    batch = make_batch(kept)
    losses, wanted = gradients(fabric, kept, batch)
    found_losses, found = gradients(fabric, again, batch, checkpoint_activations=True)
    assert found_losses == losses
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    # Running statistics of batch norm have seen the batch once.
    pairs = zip(kept.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_fewer_activations_are_kept(fabric):
    """Bytes that autograd keeps."""

    def kept(**levers) -> int:
        method = make("baselines/supervised", net__backbone="mobilenetv2_100")
        trainer = Trainer(fabric, method, make_protocol(), runtime(**levers), 0)
        sizes = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.setdefault(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()) and x, lambda x: x
        ):
            trainer.model(PROGRESS, **make_batch(method).tensors())
        return sum(sizes.values())

    assert kept(checkpoint_activations=True) < 0.8 * kept()


def test_a_backbone_without_checkpoints_is_refused(fabric, monkeypatch):
    method = make("baselines/supervised")
    monkeypatch.delattr(type(method.student.backbone.features).__mro__[1], "set_grad_checkpointing")
    with pytest.raises(UsageError, match=r"^runtime\.levers\.checkpoint_activations: timm has no checkpoints"):
        Trainer(fabric, method, make_protocol(), runtime(checkpoint_activations=True), 0)


@pytest.fixture
def counting(monkeypatch) -> Iterator[list]:
    """Graphs that torch.compile makes; they are carried out as they are, for code takes minutes to make."""
    graphs: list = []

    def carry_out(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend=carry_out))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield graphs
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
@pytest.mark.parametrize("name", ["baselines/supervised", "baselines/supervised_region"])
def test_compiled_parts_have_no_graph_breaks_and_learn_the_same(fabric, counting, name):
    plain, compiled = make(name), make(name)
    batch = make_batch(plain)
    losses, wanted = gradients(fabric, plain, batch)
    found_losses, found = gradients(fabric, compiled, batch, compile=True)
    assert len(counting) >= len(list(network_parts(compiled)))
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) == 0
    assert found_losses == pytest.approx(losses, rel=1e-5)
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5, msg=key)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
