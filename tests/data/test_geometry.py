from __future__ import annotations

import numpy as np
import pytest
import tiny_data
import torch
from augment_data import CPU, draws, picture, pictures, planes, windows
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rc2l_bench.data import geometry
from rc2l_bench.data.geometry import FILL, Geometry, cut, draw_warp, frames_of, validity, warp


def size_of(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64)


def warped(
    image: np.ndarray, mask: np.ndarray, matrix: Tensor, crop: tuple[int, int]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Crop, label and validity of one image under an affine map (2, 3)."""
    (frame,) = frames_of(matrix[None], size_of(mask.shape), crop)
    window = cut("x", frame, image, mask)
    return warp([window], crop, CPU)[0], window.label, validity([window], crop, CPU)[0].numpy()


def slow_warp(
    image: np.ndarray, mask: np.ndarray, matrix: Tensor, crop: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: where does it come from?"""
    pixels = image.transpose(2, 0, 1) / 255
    height, width = mask.shape
    inverse = np.linalg.inv(np.vstack([matrix.double().numpy(), [0, 0, 1]]))
    out, labels = np.zeros((3, *crop)), np.full(crop, 255)
    for row in range(crop[0]):
        for column in range(crop[1]):
            x, y, _ = inverse @ (column, row, 1)
            i, j = round(y), round(x)
            if not (0 <= i < height and 0 <= j < width):
                out[:, row, column] = FILL
                continue
            labels[row, column] = mask[i, j]
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            u, v = x - left, y - top
            corner = pixels[:, top : top + 2, left : left + 2]
            out[:, row, column] = np.array([1 - v, v]) @ corner @ np.array([1 - u, u])
    return out, labels


def identity() -> Tensor:
    return torch.eye(3)[:2].clone()


def tool(seed: int = 0, **changes) -> Geometry:
    return Geometry(tiny_data.protocol(**changes), seed)


@given(seed=st.integers(0, 2**40), low=st.floats(0.2, 1.0), high=st.floats(1.0, 3.0), void=st.floats(0, 1))
@settings(max_examples=60)
def test_labels_after_any_warp_are_labels_from_before_or_void(seed, low, high, void):
    found = pictures((40, 48), (29, 31))
    for _, mask in found:
        mask[np.random.default_rng(seed).random(mask.shape) < void] = 255
        mask[:, ::5] = 254
    for window, (_, mask) in zip(
        windows(tool(seed, weak={"scale": [low, high], "flip": 0.5}), "labelled", found), found, strict=True
    ):
        assert set(np.unique(window.label)) <= set(np.unique(mask)) | {255}


@given(
    scale=st.floats(0.3, 4),
    offset=st.floats(-60, 60),
    flip=st.booleans(),
    crop=st.integers(8, 40),
    image=st.integers(2, 90),
)
@settings(max_examples=200)
def test_a_window_holds_every_pixel_that_its_crop_reads_and_no_more(scale, offset, flip, crop, image):
    axis = geometry.Axis(-scale if flip else scale, offset, crop, image)
    places = np.clip((np.arange(crop) - offset) / axis.scale, 0, image - 1)
    read = {*np.floor(places).astype(int), *np.ceil(places).astype(int)}
    assert (axis.window.start, axis.window.stop) == (min(read), max(read) + 1)
    np.testing.assert_allclose(axis.grid + axis.window.start, places)
    assert axis.window.stop - axis.window.start < (crop - 1) / scale + 3
    nearest = np.rint((np.arange(crop) - offset) / axis.scale)
    inside = np.flatnonzero((nearest >= 0) & (nearest < image))
    assert np.arange(crop)[axis.inside].tolist() == inside.tolist()
    assert axis.nearest.tolist() == nearest[inside].tolist()


def test_drawn_warps_do_what_a_slow_reference_does():
    image, mask = picture(17, 21)
    for step in range(12):
        weak = tiny_data.protocol(weak={"scale": [0.5, 2.0], "flip": 0.5}).weak
        matrix = draw_warp(draws(step=step), size_of((17, 21)), (16, 20), weak, 0.8)[0]
        out, label, _ = warped(image, mask, matrix, (16, 20))
        slow, slow_label = slow_warp(image, mask, matrix, (16, 20))
        np.testing.assert_array_equal(label, slow_label)
        np.testing.assert_allclose(out.numpy(), slow, atol=1e-5)


def test_a_large_photo_is_read_as_exactly_as_a_small_one():
    image = np.zeros((3000, 4000, 3), np.uint8)
    image[:] = (np.arange(4000) % 256)[None, :, None]
    matrix = torch.tensor([[1.0, 0, -3700.25], [0, 1.0, -2900.5]])
    out, *_ = warped(image, image[..., 0], matrix, (32, 64))
    expected = [(0.75 * (x % 256) + 0.25 * ((x + 1) % 256)) / 255 for x in range(3700, 3764)]
    np.testing.assert_allclose(out.numpy(), np.broadcast_to(expected, (3, 32, 64)), atol=1e-5)


def test_all_at_once_is_the_same_as_one_by_one(monkeypatch):
    found = windows(tool(), "labelled", pictures((40, 48), (33, 41), (20, 20), (12, 60)))
    alone = warp(found, (32, 32), CPU)
    monkeypatch.setattr(geometry, "pieces", lambda images, _: iter([slice(0, images)]))
    assert (warp(found, (32, 32), CPU) - alone).abs().max() < 1e-4


def test_the_identity_changes_no_colour_and_no_label():
    image, mask = picture()
    out, label, valid = warped(image, mask, identity(), (40, 48))
    assert torch.equal((out * 255).round().to(torch.uint8), torch.from_numpy(image).permute(2, 0, 1))
    assert torch.allclose(out, planes(image), atol=1e-5)
    np.testing.assert_array_equal(label, mask)
    assert valid.all()


def test_the_mirror_changes_no_colour_and_no_label():
    image, mask = picture()
    matrix = identity()
    matrix[0] = torch.tensor([-1.0, 0.0, 47.0])
    out, label, _ = warped(image, mask, matrix, (40, 48))
    assert torch.allclose(out, planes(image).flip(-1), atol=1e-5)
    np.testing.assert_array_equal(label, mask[:, ::-1])


@pytest.mark.parametrize("top", [0, 3, 8])
@pytest.mark.parametrize("left", [0, 5, 16])
def test_a_crop_changes_no_colour_and_no_label(top, left):
    image, mask = picture()
    matrix = identity()
    matrix[:, 2] = torch.tensor([-left, -top])
    out, label, _ = warped(image, mask, matrix, (32, 32))
    assert torch.allclose(out, planes(image)[:, top : top + 32, left : left + 32], atol=1e-5)
    np.testing.assert_array_equal(label, mask[top : top + 32, left : left + 32])


def test_the_corners_of_the_image_go_where_the_scale_says():
    weak = tiny_data.protocol(weak={"scale": [2.0, 2.0], "flip": 0.0}).weak
    matrix = draw_warp(draws(), size_of((16, 16)), (32, 32), weak, 1.0)[0]
    assert matrix[0, 0] == matrix[1, 1] == 2
    assert torch.allclose(matrix @ torch.tensor([-0.5, -0.5, 1]), torch.tensor([-0.5, -0.5]))
    assert torch.allclose(matrix @ torch.tensor([15.5, 15.5, 1]), torch.tensor([31.5, 31.5]))


@pytest.mark.parametrize(("scale", "image_scale"), [([2.0, 2.0], 1.0), ([1.0, 1.0], 2.0), ([4.0, 4.0], 0.5)])
def test_a_larger_image_covers_the_whole_crop(scale, image_scale):
    weak = tiny_data.protocol(weak={"scale": scale}).weak
    size = size_of((40, 48)).expand(200, 2)
    frames = frames_of(draw_warp(draws(200), size, (32, 32), weak, image_scale), size, (32, 32))
    assert all(frame.whole for frame in frames)


def test_a_smaller_image_lies_inside_the_crop_as_a_whole():
    weak = tiny_data.protocol(weak={"scale": [0.5, 0.5]}).weak
    size = size_of((40, 48)).expand(200, 2)
    for frame in frames_of(draw_warp(draws(200), size, (64, 64), weak, 1.0), size, (64, 64)):
        # Half a pixel of each border is a matter of rounding.
        assert abs(frame.rows.inside.stop - frame.rows.inside.start - 20) <= 1
        assert abs(frame.columns.inside.stop - frame.columns.inside.start - 24) <= 1
        assert (frame.rows.window, frame.columns.window) == (slice(0, 40), slice(0, 48))


def test_scales_are_drawn_log_uniformly_and_places_evenly():
    weak = tiny_data.protocol(weak={"scale": [0.5, 2.0], "flip": 0.0}).weak
    matrix = draw_warp(draws(4000), size_of((64, 64)).expand(4000, 2), (32, 32), weak, 1.0)
    scale = matrix[:, 0, 0]
    assert 0.5 <= scale.min() < 0.51
    assert 1.97 < scale.max() <= 2.0
    assert abs((scale < 1).float().mean() - 0.5) < 0.03
    share = ((scale - 1) / 2 - matrix[:, 0, 2]) / (64 * scale - 32)
    assert abs(share[scale > 0.6].mean() - 0.5) < 0.03


def test_half_of_the_images_are_mirrored():
    weak = tiny_data.protocol(weak={"flip": 0.5}).weak
    matrix = draw_warp(draws(2000), size_of((64, 64)).expand(2000, 2), (32, 32), weak, 1.0)
    assert abs((matrix[:, 0, 0] < 0).float().mean() - 0.5) < 0.04


def test_outside_of_a_small_image_are_the_fill_colour_and_void():
    image, mask = picture(10, 12)
    mask[mask == 255] = 0
    out, label, valid = warped(image, mask, identity(), (40, 48))
    assert (label != 255).sum() == valid.sum() == 10 * 12
    assert valid[:10, :12].all()
    assert torch.allclose(out[:, torch.from_numpy(~valid)], torch.tensor(FILL)[:, None])


def test_what_lies_outside_the_image_is_not_mixed_into_it():
    image = np.full((20, 18, 3), 255, np.uint8)
    scaled = tool(weak={"scale": [1.2, 1.5], "flip": 0.5})
    found = windows(scaled, "unlabelled", [(image, image[..., 0])] * 2)
    out, valid = warp(found, (32, 32), CPU), validity(found, (32, 32), CPU)
    assert valid.sum() > 2 * 20 * 18
    assert out.movedim(1, -1)[valid].min() > 0.999


def test_void_inside_the_image_keeps_its_colours():
    image, mask = picture()
    out, label, _ = warped(image, np.full_like(mask, 255), identity(), (40, 48))
    assert (label == 255).all()
    assert torch.allclose(out, planes(image), atol=1e-5)


def test_a_window_is_a_copy_of_no_more_than_the_crop_reads():
    image, mask = picture(400, 600)
    (window,) = windows(tool(weak={"scale": [1.0, 1.0], "flip": 0.0}), "labelled", [(image, mask)])
    assert window.pixels.shape[0] <= 34
    assert window.pixels.shape[1] <= 34
    assert not np.shares_memory(window.pixels, image)


def test_frames_replay_from_seed_stream_and_step_and_differ_otherwise():
    size = size_of((40, 48), (33, 41))
    first = tool().frames("labelled", 3, size)
    torch.rand(7)
    assert tool().frames("labelled", 3, size) == first
    assert tool(seed=1).frames("labelled", 3, size) != first
    assert tool().frames("unlabelled", 3, size) != first
    assert tool().frames("labelled", 4, size) != first


def test_two_processes_draw_the_frames_of_one():
    size = size_of(*[(40 - i, 48 - i) for i in range(8)])
    whole = tool().frames("labelled", 5, size)
    for rank in (0, 1):
        rows = slice(4 * rank, 4 * rank + 4)
        assert Geometry(tiny_data.protocol(), 0, rank, 2).frames("labelled", 5, size[rows]) == whole[rows]
