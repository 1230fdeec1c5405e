from __future__ import annotations

from dataclasses import replace

import pytest
import region_reference as reference
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from rc2l_bench.losses.matching import SetLossConfig, match_regions
from rc2l_bench.losses.regions import label_regions
from rc2l_bench.losses.set_loss import class_loss, compare_masks, set_loss
from rc2l_bench.nets.lattice import PIXELS, Lattice
from rc2l_bench.nets.region_net import Prediction
from rc2l_bench.run.allocations import peak_of

K = 4
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
WEIGHTS = {"class_weight": 1.0, "focal_weight": 20.0, "dice_weight": 1.0, "no_object": 0.1}
QUERIES, DIM = 4, 6


def student(seed=0, images=3, layers=2, size=(4, 5), dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return Prediction(
        logits=(torch.randn(images, layers, QUERIES, K + 1, generator=g) * 2).to(dtype).requires_grad_(),
        embedding=torch.randn(images, layers, QUERIES, DIM, generator=g).to(dtype).requires_grad_(),
        features=torch.randn(images, DIM, *size, generator=g).to(dtype).requires_grad_(),
        lattice=Lattice(16 / size[0]),
    )


def labels(seed=0):
    label = torch.randint(0, 3, (3, 16, 20), generator=torch.Generator().manual_seed(seed))
    label[0, :5] = 255
    label[1] = 2
    return label


@pytest.mark.parametrize("ignored", ["background", "excluded"])
@pytest.mark.parametrize("seed", range(2))
def test_the_set_loss_equals_maskformers_definition(ignored, seed):
    seen, label = student(seed), labels(seed)
    found = set_loss(seen, label, SetLossConfig(**WEIGHTS, ignored=ignored))
    mask = torch.stack([seen.mask(s) for s in range(2)], 1).detach()
    expected = reference.set_loss(seen.logits.detach().double().numpy(), mask, label.numpy(), ignored)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_ignored_pixels_change_the_set_loss_only_when_they_are_background():
    seen, label = student(size=(16, 20)), labels()
    changed = replace(seen, features=seen.features + 3 * (label == 255)[:, None])
    excluded, background = (SetLossConfig(**WEIGHTS, ignored=name) for name in ("excluded", "background"))
    assert torch.equal(set_loss(seen, label, excluded), set_loss(changed, label, excluded))
    assert abs(set_loss(seen, label, background) - set_loss(changed, label, background)) > 0.1


def test_labels_of_ignored_pixels_alone_say_nothing():
    seen = student()
    loss = set_loss(seen, torch.full((3, 16, 20), 255), SetLossConfig(**WEIGHTS, ignored="excluded"))
    loss.backward()
    assert loss == 0
    assert not any(x.grad.any() for x in (seen.logits, seen.embedding, seen.features))


def test_more_classes_than_queries_are_fine():
    label = torch.arange(6).repeat(8, 1)[None].repeat(3, 1, 1)
    seen = student()
    wide = replace(seen, logits=F.pad(seen.logits, (0, 3)))
    assert set_loss(wide, label, SetLossConfig(**WEIGHTS, ignored="excluded")).isfinite()


@pytest.mark.parametrize("value", [1e4, -1e4, float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_set_loss_is_finite_for_any_logits(value, dtype):
    seen = student(dtype=dtype)
    with torch.no_grad():
        seen.logits[:, :, :2] = value
        seen.embedding[:, :, 1] = value
    with torch.autocast("cpu", torch.bfloat16 if dtype == torch.float32 else dtype, enabled=dtype != torch.float32):
        loss = set_loss(seen, labels(), SetLossConfig(**WEIGHTS, ignored="excluded"))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_the_set_loss_falls_when_masks_and_classes_are_right():
    label = labels()
    label[1] = label[2]  # every query has its class in every image
    regions = F.one_hot(label.where(label < 255, 3), K).movedim(-1, 1).float()
    right = Prediction(
        logits=(F.one_hot(torch.tensor([0, 1, 2, K]), K + 1) * 20.0).expand(3, 2, -1, -1),
        embedding=(torch.eye(QUERIES) * 20).expand(3, 2, -1, -1),
        features=regions - 0.5,
        lattice=PIXELS,
    )
    config = SetLossConfig(**WEIGHTS, ignored="excluded")
    assert set_loss(right, label, config) < 0.2 < set_loss(student(), label, config)


def test_only_matched_queries_get_a_mask_gradient():
    seen = student(images=3)
    label = torch.zeros(3, 16, 20, dtype=torch.int64)
    set_loss(seen, label, SetLossConfig(**WEIGHTS, ignored="excluded")).backward()
    assert (seen.embedding.grad.abs().sum(-1) > 0).sum(-1).unique().tolist() == [1]


def loss_and_gradients(seen, label, config):
    loss = set_loss(seen, label, config)
    (3 * loss).backward()
    return [loss.detach(), *(x.grad for x in (seen.logits, seen.embedding, seen.features))]


@pytest.mark.parametrize("piece", [1, 2 * 16 * 20, 5 * 16 * 20])
@pytest.mark.parametrize("ignored", ["background", "excluded"])
def test_comparing_masks_piece_by_piece_changes_nothing(monkeypatch, ignored, piece):
    config = SetLossConfig(**WEIGHTS, ignored=ignored)
    whole = loss_and_gradients(student(), labels(), config)
    monkeypatch.setattr("rc2l_bench.losses.set_loss.PIECE", piece)
    for a, b in zip(loss_and_gradients(student(), labels(), config), whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def plain_loss(seen, label, config):
    """The same loss in one expression that autograd sees as a whole."""
    truth = label_regions(label, K, config.ignored)
    match = match_regions(seen, truth.shrink(seen.lattice, seen.features.shape[-2:]), config, [0, 1])
    total = class_loss(seen.logits, match, config)
    query = match.query
    for b, s, r in (query >= 0).nonzero().tolist():
        mask = torch.einsum("d,dhw->hw", seen.embedding[b, s, query[b, s, r]], seen.features[b])
        target, valid = truth.index[b : b + 1] == r, truth.valid[b : b + 1]
        total = total + compare_masks(mask[None, None], seen.lattice, target, valid, config).sum() / truth.present.sum()
    return total


def test_gradients_are_those_of_autograd():
    config = SetLossConfig(**WEIGHTS, ignored="excluded")
    ours, theirs = student(), student()
    set_loss(ours, labels(), config).backward()
    plain_loss(theirs, labels(), config).backward()
    for name in ("logits", "embedding", "features"):
        torch.testing.assert_close(getattr(ours, name).grad, getattr(theirs, name).grad, atol=1e-6, rtol=1e-5)


def test_memory_does_not_grow_with_the_number_of_masks(monkeypatch):
    """Beyond stride 4: nothing of regions × layers × full-size pixels is kept."""
    monkeypatch.setattr("rc2l_bench.losses.set_loss.PIECE", 1)
    config = SetLossConfig(**WEIGHTS, ignored="excluded")
    peaks = []
    for layers in (1, 4):
        seen = student(images=2, layers=layers, size=(16, 16))
        label = torch.arange(3).repeat_interleave(86)[:256].expand(2, 256, 256)
        peaks.append(peak_of(lambda seen=seen, label=label: set_loss(seen, label, config)))
    full = 256 * 256 * 4
    assert peaks[1] - peaks[0] < 3 * 12 * full  # a piece has 3 layers more; 6 regions would be 6 times that


def share_of_the_loss(rank, folder, label, config):
    """The loss of two of four images, in one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    mine = student(images=4).rows(slice(2 * rank, 2 * rank + 2))
    torch.save(set_loss(mine, label[2 * rank : 2 * rank + 2], config).detach(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_the_set_loss_is_the_same_for_any_number_of_processes(tmp_path):
    label = torch.cat([labels(), labels(1)[:1]])
    config = SetLossConfig(**WEIGHTS, ignored="background")
    mp.spawn(share_of_the_loss, (tmp_path, label, config), nprocs=2)
    mean = (torch.load(tmp_path / "0.pt") + torch.load(tmp_path / "1.pt")) / 2
    torch.testing.assert_close(mean, set_loss(student(images=4), label, config).detach())
