from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rc2l_bench.losses.pseudo_regions import (
    class_regions,
    merge_classes,
    mix,
    query_regions,
    semantic_map,
    teacher_regions,
)
from rc2l_bench.losses.regions import number_regions
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.region_net import Prediction

K = 4


def pair(x):
    """An image with the second image of a pair, which is empty."""
    return torch.cat([x, torch.zeros_like(x)])


def no_box(images, height, width):
    return torch.zeros(1, images, height, width, dtype=torch.bool)


def test_a_class_region_is_where_the_teacher_is_sure_of_the_class():
    semantic = torch.tensor([[0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9], [0.0] * 4, [0.0] * 4]).view(1, K, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    regions = class_regions(semantic, valid, 0.85)
    assert regions.present.tolist() == [[True, False, False, False]]
    assert regions.index.tolist() == [[[0, -1, -1, -1]]]
    assert regions.valid.tolist() == [[[True, False, False, False]]]
    regions = class_regions(semantic, valid, 0.5)
    assert regions.label[regions.present].tolist() == [0, 1]
    torch.testing.assert_close(regions.probability[0, 0], torch.tensor([0.85, 0.15, 0, 0]))
    torch.testing.assert_close(regions.probability[0, 1], torch.tensor([0.2, 0.8, 0, 0]))


def sure(*classes):
    """Class logits of queries that are sure of a class; K = no object."""
    return F.one_hot(torch.tensor(classes), K + 1).float() * 20


def test_a_query_region_is_the_binarised_mask_of_a_confident_query():
    mask = (
        torch.tensor([[5.0, -5, -5, -5], [-5, 5, -5, -5], [-5, -5, 5, -5], [-5, -5, -5, -5]]).view(1, 4, 1, 4).sigmoid()
    )
    logits = sure(2, K, 2, 1)[None]
    regions = query_regions(pair(logits), pair(mask), pair(torch.ones(1, 1, 4)).bool(), no_box(2, 1, 4), 0.9)
    assert regions.present[0].sum() == 2  # of the same class; no object and empty masks give none
    assert regions.label[0, :2].tolist() == [2, 2]
    assert regions.index[0].tolist() == [[0, -1, 1, -1]]
    assert torch.equal(regions.valid, regions.index >= 0)


def test_queries_below_the_threshold_give_no_region():
    mask = torch.full((2, 1, 1, 2), 0.9)
    logits = torch.tensor([0.8, 0.1, 0.05, 0.03, 0.02]).log().expand(2, 1, -1)
    valid = torch.ones(2, 1, 2).bool()
    assert query_regions(logits, mask, valid, no_box(2, 1, 2), 0.79).present[:, 0].all()
    assert not query_regions(logits, mask, valid, no_box(2, 1, 2), 0.81).present.any()


def test_overlaps_of_query_regions_go_to_the_more_probable_query():
    mask = torch.tensor([[9.0, 9, -9], [-9, 1, 1]]).view(1, 2, 1, 3).sigmoid()
    logits = torch.stack([sure(0)[0] * 0.2, sure(1)[0]])[None]
    valid = pair(torch.ones(1, 1, 3)).bool()
    regions = query_regions(pair(logits), pair(mask), valid, no_box(2, 1, 3), 0.5)
    label = regions.label[0][regions.index[0]]
    assert label.tolist() == [[0, 1, 1]]


def test_the_distribution_of_a_query_region_has_no_no_object():
    logits = torch.tensor([0.6, 0.2, 0.0, 0.0, 0.2]).clamp(min=1e-9).log().expand(2, 1, -1)
    valid = torch.ones(2, 1, 1).bool()
    regions = query_regions(logits, torch.ones(2, 1, 1, 1), valid, no_box(2, 1, 1), 0.5)
    torch.testing.assert_close(regions.probability[0, 0], torch.tensor([0.75, 0.25, 0, 0]), atol=1e-6, rtol=0)


def test_pasted_query_regions_keep_their_own_class():
    mask = torch.full((2, 1, 1, 4), 0.9)
    logits = torch.stack([sure(0), sure(3)])
    box = torch.tensor([False, False, True, True]).view(1, 1, 1, 4).expand(2, 2, 1, 4)
    regions = query_regions(logits, mask, torch.ones(2, 1, 4).bool(), box, 0.5)
    picture = regions.label.gather(1, regions.index.flatten(1))
    assert picture.tolist() == [[0, 0, 3, 3], [3, 3, 0, 0]] * 2


def test_mix_repeats_images_for_every_view():
    x = torch.arange(2 * 4).view(2, 2, 2)
    box = torch.zeros(2, 2, 2, 2, dtype=torch.bool)
    box[1, :, 0] = True
    assert torch.equal(mix(x, box)[:2], x)
    assert torch.equal(mix(x, box)[2], torch.stack([x[1, 0], x[0, 1]]))


def teacher_sees(label, dim=6, stride=1.0):
    """A prediction whose queries are the classes; features hold the place of a pixel."""
    label = torch.as_tensor(label)
    features = torch.cat(
        [F.one_hot(label, K).movedim(-1, 1).float(), torch.randn(len(label), dim - K, *label.shape[1:])], 1
    )
    embedding = F.pad(torch.eye(K), (0, dim - K)).expand(len(label), 1, -1, -1) * 40
    shifted = torch.cat([features[:, :K] - 0.5, features[:, K:]], 1)
    logits = (F.one_hot(torch.arange(K), K + 1) * 20.0).expand(len(label), 1, -1, -1)
    return Prediction(logits=logits, embedding=embedding, features=shifted, lattice=Lattice(stride))


@pytest.mark.parametrize("form", ["class", "query"])
def test_regions_are_cut_and_pasted_like_the_images(form):
    label = torch.randint(0, K, (4, 6, 6))
    box = torch.rand(2, 4, 6, 6) < 0.5
    box[:, 1::2] = box[:, ::2]
    regions = teacher_regions(teacher_sees(label), torch.ones(4, 6, 6).bool(), box, form, 0.5)
    expected = mix(label, box)
    picture = regions.label.gather(1, regions.index.flatten(1)).view_as(expected)
    assert torch.equal(picture, expected)


@pytest.mark.parametrize("form", ["class", "query"])
def test_what_lies_outside_the_image_is_in_no_region(form):
    label = torch.zeros(2, 8, 8, dtype=torch.int64)
    valid = torch.ones(2, 16, 16).bool()
    valid[:, :, 8:] = False
    regions = teacher_regions(teacher_sees(label, stride=2.0), valid, no_box(2, 16, 16), form, 0.5)
    assert torch.equal(regions.valid, valid[:, ::2, ::2])
    assert torch.equal(regions.mask().any(1), regions.valid)


@pytest.mark.parametrize("form", ["class", "query"])
def test_a_teacher_of_nothing_but_nan_gives_no_region(form):
    seen = teacher_sees(torch.zeros(2, 4, 4, dtype=torch.int64))
    broken = replace(seen, logits=seen.logits * torch.nan)
    assert not teacher_regions(broken, torch.ones(2, 4, 4).bool(), no_box(2, 4, 4), form, 0.9).present.any()


def test_the_semantic_map_is_normalised_and_zero_without_masks():
    logits, mask = torch.randn(2, 5, K + 1), torch.rand(2, 5, 3, 3)
    mask[:, :, 0, 0] = 0
    total = semantic_map(logits, mask).sum(1)
    assert total[:, 0, 0].tolist() == [0, 0]
    torch.testing.assert_close(total[:, 1:], torch.ones(2, 2, 3))


def test_regions_of_one_class_become_its_semantic_mask():
    index = torch.tensor([[[0, 1, 2, -1]], [[-1, -1, -1, -1]]])
    one_hot = F.one_hot(torch.tensor([[2, 0, 2], [0, 0, 0]]), K).float()
    merged, count = merge_classes(number_regions(index, one_hot, torch.ones(2, 1, 4).bool()), 2)
    assert merged.label[0].tolist() == [0, 2]
    assert merged.mask()[0, :, 0].tolist() == [[False, True, False, False], [True, False, True, False]]
    assert count.tolist() == [[1, 2], [0, 0]]
    assert merged.valid.all()
