"""Every recipe at full size but for the arithmetic: 20 real batches, and 20 steps of networks without values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import archives_data
import full_size_data
import pytest
import tiny_data
import torch
from torch import Tensor

from rc2l_bench.cost.dry_run import CPU, learn, without_values
from rc2l_bench.methods.contract import load_config
from rc2l_bench.run.cell import RunInputs, open_cell
from rc2l_bench.run.evaluate import predict_logits
from rc2l_bench.run.hardware import open_fabric
from rc2l_bench.run.pipeline import cell_stages
from rc2l_bench.run.runner import Wiring
from rc2l_bench.types import IGNORE, Batch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout_of(tmp_path_factory, launch) -> Callable[[str], Path]:
    """Makes a checkout with the shards of a data set's made-up archives, once for each set."""

    @cache
    def make(dataset: str) -> Path:
        root = tmp_path_factory.mktemp(dataset)
        recipe = next(name for name in full_size_data.distinct_recipes() if full_size_data.set_of(name) == dataset)
        archives_data.lay_out(root, tiny_data.params(protocol={dataset: full_size_data.short_protocol(recipe)}))
        env = archives_data.environment(root, full_size_data.write_archives(root / "mirror", dataset), root / "mirror")
        cell = {"dataset": dataset, "split": "1_4", "method": full_size_data.method_of(recipe), "seed": "0"}
        for stage in cell_stages(cell, root)[:-1]:
            archives_data.call(launch, stage.command[2:], root, env)
        return root

    return make


def open_recipe(root: Path, recipe: str) -> RunInputs:
    """The cell that a recipe's training would be, in a checkout that has the data."""
    dataset = full_size_data.set_of(recipe)
    shards, plan = root / f"data/shards/{dataset}", root / f"data/splits/{dataset}/1_4/seed0.json"
    tiny_data.write_yaml(
        root / "params.yaml", tiny_data.params(protocol={dataset: full_size_data.short_protocol(recipe)})
    )
    return open_cell(dataset, "1_4", full_size_data.method_of(recipe), 0, shards, plan)


def batches(cell: RunInputs) -> Iterator[Batch]:
    wiring = Wiring(cell, open_fabric(cell.params.runtime))
    return (wiring.augment(loaded, step) for step, loaded in enumerate(wiring.batches(0)))


def check_batch(batch: Batch, cell: RunInputs, views: int) -> int:
    """What networks and losses take for granted; returns how many pixels have a label."""
    crop, classes = cell.protocol.crop, len(cell.val.classes)
    assert batch.image.shape == (2, 3, *crop)
    assert batch.strong.shape == (views, 2, 3, *crop)
    for images in (batch.image, batch.weak, batch.strong):
        assert images.dtype == torch.float32
        assert 0 <= images.min() < images.max() <= 1
    known = batch.label[batch.label != IGNORE]
    assert ((known >= 0) & (known < classes)).all()
    return len(known)


def empty(tensor: Tensor) -> Tensor:
    """A tensor of the same form; without values where tensors have none."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def sizes(cell: RunInputs) -> list[torch.Size]:
    """Shapes of the validation images, as a batch of one each."""
    images = (cell.val.read([position])[0].decode_image() for position in range(len(cell.val)))
    return [torch.Size((1, 3, *image.shape[:2])) for image in images]


@pytest.mark.parametrize("recipe", full_size_data.distinct_recipes())
def test_twenty_batches_steps_and_the_validation_part_are_what_the_networks_take(checkout_of, monkeypatch, recipe):
    root = checkout_of(full_size_data.set_of(recipe))
    monkeypatch.chdir(root)
    cell = open_recipe(root, recipe)
    classes, views = len(cell.val.classes), load_config(cell.method).views.strong
    labelled = []
    for batch in batches(cell):
        labelled.append(check_batch(batch, cell, views))
    count = len(labelled)
    assert count == full_size_data.STEPS
    assert sum(labelled) > 0
    with without_values(cell.method, cell.protocol, classes) as method:
        # All batches have the form of the last one; what a method does depends on how far the training is, too.
        for step in range(count):
            learn(method, Batch(**{name: empty(tensor) for name, tensor in batch.tensors().items()}), step / count)
        assert all(weight.grad is not None for weight in method.parameters() if weight.requires_grad)
        method.eval()
        for size in set(sizes(cell)):
            image = torch.empty(size, dtype=torch.uint8)
            logits = predict_logits(method.predict, image, cell.protocol.eval, cell.protocol.image_scale, CPU)
            assert logits.shape == (1, classes, *size[2:])
