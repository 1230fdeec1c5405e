"""One global batch, in one process and in two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from method_data import METHODS, learned_regions, make, make_batch, optimiser_of
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rc2l_bench import processes
from rc2l_bench.types import Batch

STEPS = 3
SURE = {"threshold": 0.22}
"""An untrained network is not surer than this; a higher threshold would leave the unlabelled losses at 0."""
RC2L = "rc2l_bench/methods/rc2l"
ALIKE = [name for name in METHODS if name != "baselines/rc2l_infonce"]
"""Methods that any number of processes should agree on; that reading takes negatives from its own process alone."""
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {name: (name, {}, {}) for name in ALIKE}
CASES["baselines/fixmatch"] = ("baselines/fixmatch", SURE, {})
CASES["baselines/unimatch"] = ("baselines/unimatch", SURE | {"dropout": 0.0}, {})
CASES["baselines/unimatch_v2"] = ("baselines/unimatch_v2", SURE | {"dropped": 0.0}, {})
CASES[RC2L] = (RC2L, {"threshold": 0.0, "weights.mask": 1.0}, {})
CASES["baselines/cps plain"] = ("baselines/cps", {"variant": "plain", "views.strong": 0}, {})
CASES["baselines/u2pl as_published"] = (
    "baselines/u2pl",
    {"variant": "as_published", "contrast.ranks": [1, 20], "contrast.share": 1.0},
    {},
)
CASES["ohem"] = ("baselines/supervised", {}, {"supervised_loss": "ohem"})


ALONE = "every process with a batch norm of its own"
BOUND = 1e-5
State = dict[str, Tensor]


def rows(batch: Batch, rank: int, world: int) -> Batch:
    """What one of several processes gets of a batch."""
    labelled, unlabelled = (
        slice(rank * count // world, (rank + 1) * count // world) for count in (len(batch.image), len(batch.weak))
    )
    return Batch(
        image=batch.image[labelled], label=batch.label[labelled], weak=batch.weak[unlabelled],
        strong=batch.strong[:, unlabelled], box=batch.box[:, unlabelled], valid=batch.valid[unlabelled],
    )  # fmt: skip


def double(batch: Batch) -> Batch:
    """The batch in float64, where rounding flips no pseudo-label and what remains is a real difference."""
    return replace(batch, image=batch.image.double(), weak=batch.weak.double(), strong=batch.strong.double())


def train(case: str, rank: int, world: int, learned: State, synchronise: bool = True) -> dict[str, Any]:
    """A few steps on rows of the same batches: the mean losses by name and the state."""
    name, changes, protocol = CASES[case]
    method = make(name, changes, **protocol)
    if name == RC2L:  # an untrained teacher finds one region in every image, which has no rivals
        method.student.load_state_dict(learned)
        method.teacher.net.load_state_dict(learned)
    method = method.double()
    if synchronise:
        processes.synchronise(method)
    model = DistributedDataParallel(method, find_unused_parameters=True) if world > 1 else method
    optimiser = optimiser_of(method)
    history = []
    for number in range(STEPS):
        torch.manual_seed(100 * rank + number)  # only the first process may count
        losses = model(rows(double(make_batch(method, number)), rank, world), number / STEPS)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        method.after_step()
        history.append({key: processes.total(value.detach()) / world for key, value in losses.items()})
    means = {key: torch.stack([losses[key] for losses in history]) for key in history[0]}
    return {"losses": means, "state": method.state_dict()}


def primitives(rank: int) -> dict[str, Any]:
    """What the functions of the module give in one of two processes."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    every = processes.gather(x * (rank + 1))
    (every * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    flags = processes.gather(torch.tensor([rank == 0, True]))
    torch.manual_seed(rank)
    return {"every": every.detach(), "gradient": x.grad, "flags": flags, "rand": processes.rand(3, device=x.device)}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    learned = torch.load(f"{folder}/learned.pt", weights_only=True)
    found = {"primitives": primitives(rank)} | {case: train(case, rank, 2, learned) for case in CASES}
    found[ALONE] = train("baselines/supervised", rank, 2, learned, synchronise=False)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder: Path = tmp_path_factory.mktemp("two")
    torch.save(learned_regions(), folder / "learned.pt")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def worst(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference between two sets of tensors with the same names."""
    assert found.keys() == expected.keys()
    return max(float((found[key].double() - expected[key].double()).abs().max()) for key in found)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_agree_with_one_on_the_same_global_batch(two: list[dict[str, Any]], case: str) -> None:
    one = train(case, 0, 1, learned_regions())
    for found in two:
        assert worst(found[case]["losses"], one["losses"]) < BOUND
        assert worst(found[case]["state"], one["state"]) < BOUND


@pytest.mark.slow
def test_without_synchronised_batch_norm_two_processes_differ_from_one(two: list[dict[str, Any]]) -> None:
    one = train("baselines/supervised", 0, 1, learned_regions())
    assert worst(two[0][ALONE]["losses"], one["losses"]) > 100 * BOUND
    assert worst(two[0][ALONE]["state"], one["state"]) > 100 * BOUND


@pytest.mark.slow
def test_the_cases_have_losses_that_can_differ(two: list[dict[str, Any]]) -> None:
    assert {(case, key) for case in CASES for key, loss in two[0][case]["losses"].items() if not loss.any()} == set()


@pytest.mark.slow
def test_rows_gradients_and_random_numbers_are_shared(two: list[dict[str, Any]]) -> None:
    first, second = (found["primitives"] for found in two)
    assert first["every"].tolist() == second["every"].tolist() == [1.0, 2.0, 2.0, 4.0]
    # Both processes compute the same sum, and gradients are averaged afterwards: twice the gradient of one sum.
    assert first["gradient"].tolist() == [2.0, 4.0]
    assert second["gradient"].tolist() == [12.0, 16.0]
    assert first["flags"].tolist() == second["flags"].tolist() == [True, True, False, True]
    assert torch.equal(first["rand"], second["rand"])


def test_in_one_process_nothing_is_changed() -> None:
    x = torch.rand(3)
    assert processes.world() == 1
    assert processes.total(x) is x
    assert processes.gather(x) is x


def test_a_synchronised_network_keeps_its_state_and_its_output() -> None:
    plain, synchronised = make("baselines/supervised"), make("baselines/supervised")
    processes.synchronise(synchronised)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain.predict(image), synchronised.predict(image))
    assert list(plain.state_dict()) == list(synchronised.state_dict())


def test_an_activation_inside_a_batch_norm_is_kept() -> None:
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(3, act_layer=nn.ReLU)
    x = torch.randn(2, 3, 4, 4)
    expected = norm(x)
    processes.synchronise(norm)
    assert torch.equal(norm(x), expected)
    assert (expected >= 0).all()
