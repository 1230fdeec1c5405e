from __future__ import annotations

import numpy as np
import pytest
import region_reference as reference
import torch

from rc2l_bench.config import NetConfig, PixelNetConfig, RegionNetConfig
from rc2l_bench.nets.lattice import PIXELS, resample
from rc2l_bench.nets.region_net import RegionNet, semantic_scores

CLASSES = 4


def configure(output_stride=16, dim=16, layers=2, dropout=0.0):
    region = RegionNetConfig(queries=6, dim=dim, layers=layers, heads=2, feedforward=24, dropout=dropout)
    pixel = PixelNetConfig(width=8, low_width=4, rates=(1, 2, 3), dropout=0.0)
    return NetConfig(backbone="test_resnet", weights="none", output_stride=output_stride, pixel=pixel, region=region)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return RegionNet(configure(), CLASSES)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_prediction_has_the_promised_shapes(output_stride):
    seen = RegionNet(configure(output_stride), CLASSES).segment(torch.rand(2, 3, 64, 96))
    assert seen.logits.shape == (2, 2, 6, CLASSES + 1)
    assert seen.embedding.shape == (2, 2, 6, 16)
    assert seen.features.shape == (2, 16, 16, 24)
    assert seen.mask().shape == (2, 6, 16, 24)


def test_mask_logits_are_products_of_embedding_and_features(net):
    seen = net.segment(torch.rand(2, 3, 32, 32))
    by_hand = seen.embedding[1, 0, 3] @ seen.features[1, :, 2, 5]
    assert seen.mask(0)[1, 3, 2, 5].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_rows_takes_images(net):
    seen = net.segment(torch.rand(3, 3, 32, 32))
    assert torch.equal(seen.rows(slice(1, 3)).logits, seen.logits[1:])
    assert torch.equal(seen.rows(slice(1, 3)).mask(), seen.mask()[1:])


def test_semantic_scores_equal_a_sum_over_queries():
    logits, mask = torch.randn(2, 5, CLASSES + 1, dtype=torch.float64), torch.rand(2, 5, 3, 4, dtype=torch.float64)
    scores = semantic_scores(logits, mask)
    for b in range(2):
        np.testing.assert_allclose(scores[b], reference.semantic(logits[b].numpy(), mask[b].numpy()), atol=1e-12)


def test_softmax_of_the_output_gives_normalised_scores(net):
    net.eval()
    image = torch.rand(2, 3, 32, 64)
    out = net(image).detach()
    assert out.shape == (2, CLASSES, 32, 64)
    seen = net.segment(image)
    scores = semantic_scores(
        seen.logits[:, -1], resample(seen.mask(), seen.lattice, PIXELS, image.shape[-2:]).sigmoid()
    ).detach()
    torch.testing.assert_close(out.softmax(1), scores / scores.sum(1, keepdim=True))


def test_every_parameter_learns_from_a_prediction(net):
    seen = net.segment(torch.rand(2, 3, 32, 32))
    (seen.logits.square().mean() + seen.mask(0).square().mean() + seen.mask().square().mean()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_the_backbone_is_named_so_that_it_gets_its_own_learning_rate(net):
    assert any(name.startswith("backbone.") for name, _ in net.named_parameters())


def test_the_order_of_images_changes_nothing_in_evaluation(net):
    net.eval()
    image = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(net(image.flip(0)), net(image).flip(0), atol=1e-5, rtol=1e-5)


def test_a_query_sees_where_things_are(net):
    """Without positions, attention would give the same for a shuffled map."""
    coarsest = torch.randn(1, net.backbone.channels[-1], 4, 4)
    assert not torch.allclose(net.queries(coarsest), net.queries(coarsest.flip(-1)), atol=1e-4)


def learn(large, monkeypatch):
    """Outputs and gradients of a step with dropout, and the bytes that are kept for its backward pass."""
    monkeypatch.setattr("rc2l_bench.nets.region_net.LARGE", large)
    torch.manual_seed(0)
    net = RegionNet(configure(dropout=0.3), CLASSES)
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        seen = net.segment(torch.rand(2, 3, 64, 64))
    (seen.logits.square().mean() + seen.mask().square().mean()).backward()
    return seen, [p.grad for p in net.parameters()], sum(kept.values())


def test_layers_that_are_computed_again_give_the_same_bits_and_keep_less(monkeypatch):
    (seen, grads, kept), (again, same, less) = (learn(large, monkeypatch) for large in (10**9, 0))
    assert torch.equal(seen.logits, again.logits)
    assert torch.equal(seen.mask(), again.mask())
    assert all(torch.equal(a, b) for a, b in zip(grads, same, strict=True))
    assert less < kept


def test_group_norm_works_for_dimensions_that_32_does_not_divide():
    assert RegionNet(configure(dim=24), CLASSES)(torch.rand(1, 3, 32, 32)).shape == (1, CLASSES, 32, 32)
