from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_data
import torch
from augment_data import CPU, SIZES, augment, augmenter, batch, differ, draws, pictures, windows

from rc2l_bench.config import MixConfig
from rc2l_bench.data.augment import Augmenter, draw_boxes, paste
from rc2l_bench.data.randomness import Draws
from rc2l_bench.types import Batch


def boxes_of(source: Draws, crop: tuple[int, int], mix: MixConfig) -> torch.Tensor:
    return draw_boxes(source, crop, mix, CPU)


def test_a_batch_replays_from_seed_and_step():
    assert differ(batch(), batch()) == set()


def test_what_was_drawn_before_does_not_matter():
    first = batch(step=5)
    torch.rand(7)
    assert differ(first, batch(step=5)) == set()


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    batch()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 4}])
def test_another_seed_or_step_gives_another_batch(change):
    assert differ(batch(), batch(**change)) == set(Batch.__slots__)


def test_labelled_images_unlabelled_images_and_views_draw_for_themselves():
    found = pictures((40, 48), (40, 48))
    made = augment(augmenter(), found, found)
    assert not torch.equal(made.image, made.weak)
    assert not torch.equal(made.strong[0], made.strong[1])
    assert not torch.equal(made.box[0], made.box[1])


def test_the_number_of_strong_views_changes_nothing_else():
    assert differ(batch(views=1), batch(views=3), ("image", "label", "weak", "valid")) == set()
    assert torch.equal(batch(views=1).strong[0], batch(views=3).strong[0])
    assert torch.equal(batch(views=1).box[0], batch(views=3).box[0])


def test_two_processes_make_the_rows_of_one():
    found = pictures(*[(40 - i, 48 - i) for i in range(8)])
    other = found[::-1]
    whole = augment(augmenter(), found, other, 5)
    for rank in (0, 1):
        rows = slice(4 * rank, 4 * rank + 4)
        part = augment(augmenter(rank=rank, world=2), found[rows], other[rows], 5)
        for name in ("image", "label", "weak", "valid"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rows]), name
        for name in ("strong", "box"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[:, rows]), name


@pytest.mark.parametrize("threads", [2, 5])
def test_the_threads_of_the_process_change_nothing(threads):
    # Large enough for torch to spread sums over threads.
    strong = {"jitter": 1.0, "blur": 1.0, "grey": 0.0}
    expected, before = batch(crop=[256, 256], strong=strong), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert differ(batch(crop=[256, 256], strong=strong), expected) == set()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_no_unlabelled_images_are_no_trouble():
    for views in (0, 2):
        made = augment(augmenter(views=views), pictures((40, 48)), [])
        assert made.weak.shape == (0, 3, 32, 32)
        assert made.strong.shape == (views, 0, 3, 32, 32)
        assert made.box.shape == (views, 0, 32, 32)


def test_labels_are_the_crops_of_the_windows():
    tool = augmenter()
    found = windows(tool.geometry, "labelled", pictures(*SIZES), 3)
    image, label = tool.labelled(found)
    assert (label.dtype, label.shape, image.shape) == (torch.int64, (4, 32, 32), (4, 3, 32, 32))
    np.testing.assert_array_equal(label.numpy(), [window.label for window in found])


def test_strong_views_without_colours_are_the_weak_view():
    calm = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0, "blur": 0.0}
    made = batch(views=2, strong=calm)
    assert torch.allclose(made.strong, made.weak.expand_as(made.strong), atol=1e-6)


def test_strong_views_that_are_not_recoloured_are_the_weak_view_with_boxes():
    views = tiny_data.views(strong=2).model_copy(update={"recolour": False})
    tool = Augmenter(tiny_data.protocol(), views, 0, CPU)
    found = windows(tool.geometry, "unlabelled", pictures(*[(40, 48)] * 8), 2)
    weak, strong, box, _ = tool.unlabelled(found, 2)
    assert torch.equal(strong, weak.expand_as(strong))
    assert box.any()


def test_strong_views_keep_the_geometry():
    """An edge between black and white stays where it is, whatever the colours."""
    image = np.zeros((40, 48, 3), np.uint8)
    image[:, 24:] = 255
    strong = {
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.5,
        "hue": 0.5,
        "jitter": 1.0,
        "grey": 0.5,
        "blur": 0.0,
    }
    tool = augmenter(strong=strong)
    found = windows(tool.geometry, "unlabelled", [(image, image[..., 0])] * 8, 2)
    weak, views, _, valid = tool.unlabelled(found, 2)
    bright = weak.mean(1) > 0.5
    for view in views:
        mean = view.mean(1)
        for row in range(8):
            white, black = mean[row][bright[row] & valid[row]], mean[row][~bright[row] & valid[row]]
            assert len(white) == 0 or len(black) == 0 or white.min() > black.max()


def test_boxes_cover_the_share_that_was_drawn():
    mix = tiny_data.mix(area=[0.25, 0.25], ratio=[1.0, 1.0])
    boxes = boxes_of(draws(300), (64, 64), mix)
    share = boxes.float().mean((1, 2))
    assert (share - 0.25).abs().max() < 0.03


def test_the_share_of_boxes_is_uniform_between_its_bounds():
    mix = tiny_data.mix(area=[0.1, 0.5], ratio=[0.5, 2.0])
    share = boxes_of(draws(2000), (64, 64), mix).float().mean((1, 2))
    assert share.min() > 0.08
    assert share.max() < 0.52
    assert abs(share.mean() - 0.3) < 0.01
    assert abs((share < 0.2).float().mean() - 0.25) < 0.05


def test_a_box_is_one_rectangle_of_a_form_between_the_bounds():
    boxes = boxes_of(draws(100), (64, 64), tiny_data.mix(area=[0.1, 0.2], ratio=[0.5, 2.0]))
    for box in boxes:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns[None])
        assert 0.45 < rows.sum() / columns.sum() < 2.2
        assert rows.nonzero().diff(dim=0).eq(1).all()


def test_boxes_reach_every_border():
    boxes = boxes_of(draws(500), (32, 32), tiny_data.mix(area=[0.3, 0.3], ratio=[1.0, 1.0]))
    often = boxes.float().mean(0)
    assert min(often[0].max(), often[-1].max(), often[:, 0].max(), often[:, -1].max()) > 0
    assert math.isclose(float(often[:, :16].mean()), float(often[:, 16:].mean()), abs_tol=0.03)


def test_overlapping_boxes_cancel():
    mix = tiny_data.mix(boxes=3, area=[1.0, 1.0], ratio=[1.0, 1.0])
    boxes = boxes_of(draws(200), (32, 32), mix)
    side = math.sqrt(1 / 3) * 32
    counts = boxes.sum((1, 2))
    assert counts.max() <= 3 * math.ceil(side) ** 2
    assert counts.min() < 2 * side**2, "some overlap, and their common part is not mixed"


def test_no_boxes_where_images_are_not_mixed():
    boxes = boxes_of(draws(1000), (16, 16), tiny_data.mix(probability=0.4))
    assert abs(boxes.any(2).any(1).float().mean() - 0.4) < 0.05


def test_boxes_of_no_area_are_empty():
    assert not boxes_of(draws(20), (16, 16), tiny_data.mix(area=[0.0, 0.0])).any()


def test_pasting_swaps_partners():
    x = torch.arange(4).view(4, 1, 1, 1).expand(4, 2, 3, 3)
    box = torch.zeros(4, 3, 3, dtype=torch.bool)
    box[:, 0] = True
    out = paste(x, box)
    assert out[:, 0, 0, 0].tolist() == [1, 0, 3, 2]
    assert out[:, 1, 2, 2].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool])
def test_labels_are_pasted_like_images(kind):
    x = torch.randint(2, (6, 5, 5), generator=torch.Generator().manual_seed(0)).to(kind)
    box = boxes_of(draws(6), (5, 5), tiny_data.mix())
    assert torch.equal(paste(x, box), paste(x[:, None], box)[:, 0])
    assert paste(x, box).dtype == kind


def test_pasting_nothing_is_no_trouble():
    assert paste(torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool)).shape == (0, 3, 4, 4)
