from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rc2l_bench.config import StrongConfig
from rc2l_bench.data.augment import (
    FILL,
    Augmenter,
    Draws,
    draw_boxes,
    draw_warp,
    fill_canvas,
    inside,
    paste,
    recolour,
    warp,
)
from rc2l_bench.types import Batch

CPU = torch.device("cpu")
IDENTITY = {"weak": {"scale": [1.0, 1.0], "flip": 0.0}}


def drawn(images: int, height: int = 40, width: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 images and labels with classes 0, 3, 7 and void."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (images, 3, height, width), generator=generator).to(torch.uint8)
    label = torch.tensor([0, 3, 7, 255])[torch.randint(4, (images, height, width), generator=generator)]
    return image, label.to(torch.uint8)


def sizes(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64)


def draws(images: int = 1, seed: int = 0, step: int = 0) -> Draws:
    return Draws(seed, "test", step, images, slice(0, images))


def augmenter(seed: int = 0, views: int = 2, rank: int = 0, world: int = 1, **changes) -> Augmenter:
    return Augmenter(tiny_data.protocol(**changes), tiny_data.views(views), seed, CPU, rank, world)


def batch(seed: int = 0, step: int = 3, views: int = 2, **changes) -> Batch:
    image, label = drawn(4)
    size = sizes((40, 48), (33, 41), (20, 20), (40, 30))
    return augmenter(seed, views, **changes)((image, label, size), (image.flip(0), size.flip(0)), step)


def differ(one: Batch, other: Batch, names: tuple[str, ...] = Batch.__slots__) -> set[str]:
    return {name for name in names if not torch.equal(getattr(one, name), getattr(other, name))}


def identity(images: int = 1) -> Tensor:
    return torch.eye(3)[:2].expand(images, 2, 3).clone()


def slow_warp(image: Tensor, tag: Tensor, matrix: Tensor, crop: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One image, pixel by pixel: where does it come from?"""
    pixels, tags = image.numpy() / 255, tag.numpy()
    height, width = tags.shape
    inverse = np.linalg.inv(np.vstack([matrix.double().numpy(), [0, 0, 1]]))
    out, labels = np.zeros((3, *crop)), np.zeros(crop, np.int64)
    for row in range(crop[0]):
        for column in range(crop[1]):
            x, y, _ = inverse @ (column, row, 1)
            i, j = round(y), round(x)
            labels[row, column] = tags[i, j] if 0 <= i < height and 0 <= j < width else 0
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            u, v = x - left, y - top
            corner = pixels[:, top : top + 2, left : left + 2]
            out[:, row, column] = np.array([1 - v, v]) @ corner @ np.array([1 - u, u])
            if labels[row, column] == 0:
                out[:, row, column] = FILL
    return out, labels


@given(seed=st.integers(0, 2**40), low=st.floats(0.2, 1.0), high=st.floats(1.0, 3.0), void=st.floats(0, 1))
@settings(max_examples=60)
def test_labels_after_any_chain_are_labels_from_before_or_void(seed, low, high, void):
    generator = torch.Generator().manual_seed(seed % 1000)
    label = torch.randint(3, 250, (2, 40, 48), generator=generator).to(torch.uint8)
    label[torch.rand(label.shape, generator=generator) < void] = 255
    label[:, :, ::5] = 254
    tool = augmenter(seed, weak={"scale": [low, high], "flip": 0.5})
    image, _ = drawn(2)
    _, after = tool.labelled(image, label, sizes((40, 48), (29, 31)), step=seed % 17)
    assert set(after[0].unique().tolist()) <= set(label[0].unique().tolist()) | {255}
    assert set(after[1].unique().tolist()) <= set(label[1, :29, :31].unique().tolist()) | {255}


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
    image, label = drawn(2)
    size = sizes((40, 48), (40, 48))
    made = augmenter()((image, label, size), (image, size), 0)
    assert not torch.equal(made.image, made.weak)
    assert not torch.equal(made.strong[0], made.strong[1])
    assert not torch.equal(made.box[0], made.box[1])


def test_the_number_of_strong_views_changes_nothing_else():
    assert differ(batch(views=1), batch(views=3), ("image", "label", "weak", "valid")) == set()
    assert torch.equal(batch(views=1).strong[0], batch(views=3).strong[0])
    assert torch.equal(batch(views=1).box[0], batch(views=3).box[0])


def test_two_processes_make_the_rows_of_one():
    image, label = drawn(8)
    size = sizes(*[(40 - i, 48 - i) for i in range(8)])
    whole = augmenter()((image, label, size), (image.flip(0), size.flip(0)), 5)
    for rank in (0, 1):
        rows = slice(4 * rank, 4 * rank + 4)
        labelled, unlabelled = (image[rows], label[rows], size[rows]), (image.flip(0)[rows], size.flip(0)[rows])
        part = augmenter(rank=rank, world=2)(labelled, unlabelled, 5)
        assert torch.equal(part.label, whole.label[rows])
        assert torch.equal(part.box, whole.box[:, rows])
        assert torch.equal(part.valid, whole.valid[rows])
        assert torch.allclose(part.image, whole.image[rows], atol=1e-6)
        assert torch.allclose(part.weak, whole.weak[rows], atol=1e-6)
        assert torch.allclose(part.strong, whole.strong[:, rows], atol=1e-5)


def test_no_unlabelled_images_are_no_trouble():
    image, label = drawn(2)
    size = sizes((40, 48), (40, 48))
    for views in (0, 2):
        made = augmenter(views=views)((image, label, size), None, 0)
        assert made.weak.shape == (0, 3, 32, 32)
        assert made.strong.shape == (views, 0, 3, 32, 32)
        assert made.box.shape == (views, 0, 32, 32)


def test_the_identity_changes_no_colour_and_no_label():
    image, label = drawn(2)
    out, tags = warp(image, label.short() + 1, identity(2), (40, 48))
    assert torch.equal((out * 255).round().to(torch.uint8), image)
    assert torch.allclose(out, image / 255, atol=1e-5)
    assert torch.equal(tags - 1, label.long())


def test_the_mirror_changes_no_colour_and_no_label():
    image, label = drawn(2)
    matrix = identity(2)
    matrix[:, 0] = torch.tensor([-1.0, 0.0, 47.0])
    out, tags = warp(image, label.short() + 1, matrix, (40, 48))
    assert torch.allclose(out, image.flip(-1) / 255, atol=1e-5)
    assert torch.equal(tags - 1, label.flip(-1).long())


@pytest.mark.parametrize("top", [0, 3, 8])
@pytest.mark.parametrize("left", [0, 5, 16])
def test_a_crop_changes_no_colour_and_no_label(top, left):
    image, label = drawn(1)
    matrix = identity()
    matrix[0, :, 2] = torch.tensor([-left, -top])
    out, tags = warp(image, label.short() + 1, matrix, (32, 32))
    assert torch.allclose(out, image[..., top : top + 32, left : left + 32] / 255, atol=1e-5)
    assert torch.equal(tags - 1, label[..., top : top + 32, left : left + 32].long())


def test_drawn_warps_do_what_a_slow_reference_does():
    image, label = drawn(1, 17, 21)
    for step in range(12):
        weak = tiny_data.protocol(weak={"scale": [0.5, 2.0], "flip": 0.5}).weak
        matrix = draw_warp(draws(step=step), sizes((17, 21)), (16, 20), weak, 0.8)
        out, tags = warp(image, label.short() + 1, matrix, (16, 20))
        slow, slow_tags = slow_warp(image[0], label[0].short() + 1, matrix[0], (16, 20))
        # A pixel whose source lies half-way between two pixels may be rounded either way.
        same = tags[0].numpy() == slow_tags
        assert same.mean() > 0.99
        np.testing.assert_allclose(out[0].numpy()[:, same], slow[:, same], atol=2e-4)


def test_the_corners_of_the_image_go_where_the_scale_says():
    weak = tiny_data.protocol(weak={"scale": [2.0, 2.0], "flip": 0.0}).weak
    matrix = draw_warp(draws(), sizes((16, 16)), (32, 32), weak, 1.0)[0]
    assert matrix[0, 0] == matrix[1, 1] == 2
    assert torch.allclose(matrix @ torch.tensor([-0.5, -0.5, 1]), torch.tensor([-0.5, -0.5]))
    assert torch.allclose(matrix @ torch.tensor([15.5, 15.5, 1]), torch.tensor([31.5, 31.5]))


@pytest.mark.parametrize(("scale", "image_scale"), [([2.0, 2.0], 1.0), ([1.0, 1.0], 2.0), ([4.0, 4.0], 0.5)])
def test_a_larger_image_covers_the_whole_crop(scale, image_scale):
    weak = tiny_data.protocol(weak={"scale": scale}).weak
    matrix = draw_warp(draws(200), sizes((40, 48)).expand(200, 2), (32, 32), weak, image_scale)
    ones = torch.ones(200, 40, 48, dtype=torch.uint8)
    _, tags = warp(torch.zeros(200, 3, 40, 48, dtype=torch.uint8), ones, matrix, (32, 32))
    assert (tags == 1).all()


def test_a_smaller_image_lies_inside_the_crop_as_a_whole():
    weak = tiny_data.protocol(weak={"scale": [0.5, 0.5]}).weak
    matrix = draw_warp(draws(200), sizes((40, 48)).expand(200, 2), (64, 64), weak, 1.0)
    ones = torch.ones(200, 40, 48, dtype=torch.uint8)
    _, tags = warp(torch.zeros(200, 3, 40, 48, dtype=torch.uint8), ones, matrix, (64, 64))
    # Half a pixel of each border is a matter of rounding.
    assert (tags.any(2).sum(1) - 20).abs().max() <= 1
    assert (tags.any(1).sum(1) - 24).abs().max() <= 1


def test_scales_are_drawn_log_uniformly_and_places_evenly():
    weak = tiny_data.protocol(weak={"scale": [0.5, 2.0], "flip": 0.0}).weak
    matrix = draw_warp(draws(4000), sizes((64, 64)).expand(4000, 2), (32, 32), weak, 1.0)
    scale = matrix[:, 0, 0]
    assert 0.5 <= scale.min() < 0.51
    assert 1.97 < scale.max() <= 2.0
    assert abs((scale < 1).float().mean() - 0.5) < 0.03
    share = ((scale - 1) / 2 - matrix[:, 0, 2]) / (64 * scale - 32)
    assert abs(share[scale > 0.6].mean() - 0.5) < 0.03


def test_half_of_the_images_are_mirrored():
    weak = tiny_data.protocol(weak={"flip": 0.5}).weak
    matrix = draw_warp(draws(2000), sizes((64, 64)).expand(2000, 2), (32, 32), weak, 1.0)
    assert abs((matrix[:, 0, 0] < 0).float().mean() - 0.5) < 0.04


def test_the_padding_of_the_canvas_is_invalid_and_void():
    image, label = drawn(2)
    label[label == 255] = 0
    size = sizes((40, 48), (10, 12))
    tool = augmenter(**IDENTITY, crop=[40, 48])
    out, after = tool.labelled(image, label, size, 0)
    assert (after[0] != 255).all()
    assert (after[1] != 255).sum() == 10 * 12
    assert torch.allclose(out[1][:, after[1] == 255], torch.tensor(FILL)[:, None])
    *_, valid = tool.unlabelled(image, size, 0)
    assert valid[0].all()
    assert valid[1].sum() == 10 * 12


def test_the_last_row_and_column_fill_the_canvas():
    image = torch.tensor([[[[1, 2, 0], [3, 4, 0], [0, 0, 0]]], [[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    filled = fill_canvas(image, sizes((2, 2), (3, 3)))
    assert filled[0, 0].tolist() == [[1, 2, 2], [3, 4, 4], [3, 4, 4]]
    assert torch.equal(filled[1], image[1])


def test_the_black_of_the_canvas_is_not_mixed_into_the_image():
    image = torch.zeros(2, 3, 40, 48, dtype=torch.uint8)
    image[:, :, :20, :18] = 255
    tool = augmenter(weak={"scale": [1.2, 1.5], "flip": 0.5}, crop=[32, 32])
    weak, _, _, valid = tool.unlabelled(image, sizes((20, 18), (20, 18)), 0)
    assert valid.sum() > 2 * 20 * 18
    assert weak.movedim(1, -1)[valid].min() > 0.999


def test_void_inside_the_image_keeps_its_colours():
    image, label = drawn(1)
    out, after = augmenter(**IDENTITY, crop=[40, 48]).labelled(image, torch.full_like(label, 255), sizes((40, 48)), 0)
    assert (after == 255).all()
    assert torch.allclose(out, image / 255, atol=1e-5)


def test_inside_marks_the_top_left_of_the_canvas():
    marked = inside(sizes((2, 3), (4, 1)), (4, 5))
    assert marked[0].sum() == 6
    assert marked[0, :2, :3].all()
    assert marked[1].sum() == 4
    assert marked[1, :, 0].all()


def colours(**changes) -> StrongConfig:
    calm = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "jitter": 1.0, "grey": 0.0, "blur": 0.0}
    return tiny_data.protocol(strong=calm | changes).strong


def test_strong_views_without_colours_are_the_weak_view():
    calm = colours().model_dump(mode="json")
    made = batch(views=2, strong=calm)
    assert torch.allclose(made.strong, made.weak.expand_as(made.strong), atol=1e-6)


def test_strong_views_that_are_not_recoloured_are_the_weak_view_with_boxes():
    views = tiny_data.views(strong=2).model_copy(update={"recolour": False})
    made = Augmenter(tiny_data.protocol(), views, 0, torch.device("cpu")).unlabelled(
        torch.randint(0, 256, (8, 3, 40, 48), dtype=torch.uint8), sizes(*[(40, 48)] * 8), 2
    )
    weak, strong, box, _ = made
    assert torch.equal(strong, weak.expand_as(strong))
    assert box.any()


def test_strong_views_keep_the_geometry():
    """An edge between black and white stays where it is, whatever the colours."""
    image = torch.zeros(8, 3, 40, 48, dtype=torch.uint8)
    image[..., 24:] = 255
    strong = {
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.5,
        "hue": 0.5,
        "jitter": 1.0,
        "grey": 0.5,
        "blur": 0.0,
    }
    weak, views, _, valid = augmenter(strong=strong).unlabelled(image, sizes(*[(40, 48)] * 8), 2)
    bright = weak.mean(1) > 0.5
    for view in views:
        mean = view.mean(1)
        for row in range(8):
            white, black = mean[row][bright[row] & valid[row]], mean[row][~bright[row] & valid[row]]
            assert len(white) == 0 or len(black) == 0 or white.min() > black.max()


@given(seed=st.integers(0, 10**6), strength=st.floats(0, 2), hue=st.floats(0, 0.5))
@settings(max_examples=30)
def test_colours_stay_between_0_and_1(seed, strength, hue):
    strong = colours(brightness=strength, contrast=strength, saturation=strength, hue=hue, grey=0.3, blur=0.5)
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    image[0] = image[0].round()
    out = recolour(image, strong, draws(4, seed))
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_recolouring_makes_a_new_tensor():
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    recolour(image, colours(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, grey=0.5, blur=1.0), draws(4))
    assert torch.equal(image, before)


def test_colours_are_changed_as_torchvision_does():
    from torchvision.transforms import functional as rival

    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    changes = (
        ("brightness", 0.4, rival.adjust_brightness), ("contrast", 0.4, rival.adjust_contrast),
        ("saturation", 0.4, rival.adjust_saturation),
    )  # fmt: skip
    for number, (name, strength, function) in enumerate(changes):
        mine = recolour(image, colours(**{name: strength}), draws())
        source = draws()
        source.chosen(1.0)
        factor = [source.uniform(1 - (strength if i == number else 0), 1 + strength).item() for i in range(number + 1)]
        assert torch.allclose(mine, function(image, factor[-1]).clamp(0, 1), atol=2e-3), name


def test_hue_is_turned_as_torchvision_does():
    from torchvision.transforms import functional as rival

    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    source = draws()
    source.chosen(1.0)
    for _ in range(3):
        source.uniform(0, 1)
    turn = source.uniform(-0.3, 0.3).item()
    assert torch.allclose(recolour(image, colours(hue=0.3), draws()), rival.adjust_hue(image, turn), atol=1e-3)


@pytest.mark.parametrize("name", ["jitter", "grey", "blur"])
def test_colours_are_changed_as_often_as_asked(name):
    strong = colours(brightness=0.5, **{"jitter": 0.0, name: 0.3})
    image = torch.rand(1500, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = (recolour(image, strong, draws(1500)) - image).abs().amax((1, 2, 3)) > 1e-6
    assert abs(changed.float().mean() - 0.3) < 0.04


def test_grey_images_are_grey():
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = recolour(image, colours(grey=1.0), draws(3))
    assert torch.allclose(out[:, 0], out[:, 1])
    assert torch.allclose(out[:, 0], out[:, 2])


def test_each_image_is_blurred_by_its_own_sigma():
    image = torch.zeros(6, 3, 31, 31)
    image[:, :, 15, 15] = 1
    out = recolour(image, colours(blur=1.0, sigma=[0.5, 3.0]), draws(6))
    assert len(out[:, 0, 15, 15].unique()) == 6
    assert torch.allclose(out.sum((2, 3)), torch.ones(6, 3), atol=1e-4)


def test_boxes_cover_the_share_that_was_drawn():
    mix = tiny_data.mix(area=[0.25, 0.25], ratio=[1.0, 1.0])
    boxes = draw_boxes(draws(300), (64, 64), mix)
    share = boxes.float().mean((1, 2))
    assert (share - 0.25).abs().max() < 0.03


def test_the_share_of_boxes_is_uniform_between_its_bounds():
    mix = tiny_data.mix(area=[0.1, 0.5], ratio=[0.5, 2.0])
    share = draw_boxes(draws(2000), (64, 64), mix).float().mean((1, 2))
    assert share.min() > 0.08
    assert share.max() < 0.52
    assert abs(share.mean() - 0.3) < 0.01
    assert abs((share < 0.2).float().mean() - 0.25) < 0.05


def test_a_box_is_one_rectangle_of_a_form_between_the_bounds():
    boxes = draw_boxes(draws(100), (64, 64), tiny_data.mix(area=[0.1, 0.2], ratio=[0.5, 2.0]))
    for box in boxes:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns[None])
        assert 0.45 < rows.sum() / columns.sum() < 2.2
        assert rows.nonzero().diff(dim=0).eq(1).all()


def test_boxes_reach_every_border():
    boxes = draw_boxes(draws(500), (32, 32), tiny_data.mix(area=[0.3, 0.3], ratio=[1.0, 1.0]))
    often = boxes.float().mean(0)
    assert min(often[0].max(), often[-1].max(), often[:, 0].max(), often[:, -1].max()) > 0
    assert math.isclose(float(often[:, :16].mean()), float(often[:, 16:].mean()), abs_tol=0.03)


def test_overlapping_boxes_cancel():
    mix = tiny_data.mix(boxes=3, area=[1.0, 1.0], ratio=[1.0, 1.0])
    boxes = draw_boxes(draws(200), (32, 32), mix)
    side = math.sqrt(1 / 3) * 32
    counts = boxes.sum((1, 2))
    assert counts.max() <= 3 * math.ceil(side) ** 2
    assert counts.min() < 2 * side**2, "some overlap, and their common part is not mixed"


def test_no_boxes_where_images_are_not_mixed():
    boxes = draw_boxes(draws(1000), (16, 16), tiny_data.mix(probability=0.4))
    assert abs(boxes.any(2).any(1).float().mean() - 0.4) < 0.05


def test_boxes_of_no_area_are_empty():
    assert not draw_boxes(draws(20), (16, 16), tiny_data.mix(area=[0.0, 0.0])).any()


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
    box = draw_boxes(draws(6), (5, 5), tiny_data.mix())
    assert torch.equal(paste(x, box), paste(x[:, None], box)[:, 0])
    assert paste(x, box).dtype == kind


def test_pasting_nothing_is_no_trouble():
    assert paste(torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool)).shape == (0, 3, 4, 4)
