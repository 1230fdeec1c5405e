"""What each pixel-level method does that no other does."""

from __future__ import annotations

import pytest
import torch
from method_data import make, make_batch

from baselines.unimatch_v2 import UniMatchV2, share_channels
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import cross_entropy
from rc2l_bench.types import IGNORE

# --- unimatch v2 ---


def test_unimatch_v2_learns_the_labels_of_the_teacher_and_divides_by_all_valid_pixels() -> None:
    first = make("baselines/unimatch_v2")
    batch = make_batch(first)
    threshold = float(first.eval().predict(batch.weak).softmax(1).amax(1).median())
    method = make("baselines/unimatch_v2", {"dropped": 0.0, "threshold": threshold}).eval()
    assert isinstance(method, UniMatchV2)
    for parameter in method.student.parameters():  # else the student would have the labels of the teacher
        parameter.data.mul_(1.3)
    losses = method(batch, 0.5)
    probability, label = method.teacher(batch.weak).softmax(1).max(1)
    label = label.masked_fill(~batch.valid | (probability < threshold), IGNORE)
    assert 0 < (label != IGNORE).sum() < batch.valid.sum()
    strong = torch.zeros(())
    for view, box in zip(batch.strong, batch.box, strict=True):
        logits, target = method.student(paste(view, box)), paste(label, box)
        each = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        strong = strong + each.sum() / paste(batch.valid, box).sum()
    supervised = cross_entropy(method.student(batch.image), batch.label)
    assert torch.allclose(losses["supervised"], supervised / 2, rtol=1e-4)
    assert torch.allclose(losses["strong"], strong / 2 / 2, rtol=1e-4)


def test_the_views_of_an_image_share_its_channels() -> None:
    torch.manual_seed(0)
    maps = [torch.ones(8, 40, 6, 6), torch.ones(8, 24, 3, 3), torch.ones(8, 40, 2, 2)]
    fine, middle, coarse = (x[..., 0, 0] for x in share_channels(maps, 1.0))
    for found in (fine, middle, coarse):
        assert found[:4].unique().tolist() == [0.0, 2.0]
        assert torch.equal(found[:4] + found[4:], torch.full_like(found[:4], 2.0))
    assert torch.equal(fine, coarse)
    assert len(fine.unique(dim=0)) == 8


def test_a_mask_of_channels_holds_for_a_whole_map() -> None:
    x = torch.rand(4, 10, 5, 5)
    factor = share_channels([x], 1.0)[0] / x
    assert torch.equal(factor, factor[..., :1, :1].expand_as(x))


@pytest.mark.parametrize(("dropped", "count"), [(0.0, 0), (0.5, 5), (0.7, 7), (0.51, 6), (1.0, 10)])
def test_a_share_of_the_images_loses_channels_in_all_levels_of_both_views(dropped: float, count: int) -> None:
    maps = [torch.ones(20, 30, 1, 1), torch.ones(20, 50, 1, 1)]
    lost = [(x == 0).flatten(1).any(1).view(2, 10) for x in share_channels(maps, dropped)]
    assert all(int(views[0].sum()) == count for views in lost)
    assert all(torch.equal(views, lost[0][:1].expand(2, 10)) for views in lost)


def test_which_images_lose_channels_is_drawn() -> None:
    torch.manual_seed(0)
    lost = [(share_channels([torch.ones(20, 30, 1, 1)], 0.5)[0] == 0).flatten(1).any(1) for _ in range(4)]
    assert len({tuple(row.tolist()) for row in lost}) > 1


def test_unimatch_v2_drops_channels_of_strong_views_only() -> None:
    ends = []
    for dropped in (0.0, 1.0):
        method = make("baselines/unimatch_v2", {"dropped": dropped}).eval()
        assert isinstance(method, UniMatchV2)
        torch.manual_seed(0)
        ends.append(method.streams(make_batch(method)))
    same = [torch.equal(a, b) for a, b in zip(*ends, strict=True)]
    assert same == [True, False, False]


def test_on_a_plain_transformer_unimatch_v2_shares_the_same_channels_in_all_levels() -> None:
    method = make("baselines/unimatch_v2", {"dropped": 1.0}, net__backbone="test_vit", net__output_stride=32)
    assert isinstance(method, UniMatchV2)
    batch = make_batch(method)
    lost = [(x == 0).all(-1).all(-1) for x in share_channels(method.student.encode(batch.strong.flatten(0, 1)), 1.0)]
    assert len(lost) == 4
    assert all(torch.equal(each, lost[0]) for each in lost)
    assert torch.equal(lost[0][:4], ~lost[0][4:])
    torch.stack(list(method(batch, 0.5).values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in method.student.parameters())
