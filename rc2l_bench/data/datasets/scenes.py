"""Make the pixels of `shapes`: scenes of textured objects, drawn from the name of an image.

Each image holds a few overlapping, textured objects before a textured background with distractors, under uneven light.
A class shows in its form and in its colour; hiding, light, colour cast and pale colours make either one uncertain.

Only integers are computed and every draw is a byte of SHAKE-128, so that the pixels are the same on every machine:
floating point rounds differently from one processor and library to the next, and numpy does not promise that its
generators stay as they are. Sizes and gains are small enough for every product to fit into 32 bits. Images are computed
side by side; each draws the same number of times, whatever is then seen of it. All numbers are our choice.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rc2l_bench.types import IGNORE

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Values = TypeVar("Values", Ints, Bools)

SIZE = 64
"""Height and width of an image, pixels."""

# Constants that make the data set easy or hard. Pairs are smallest and largest value, both included.
CLASS_WEIGHTS = (28, 23, 19, 17, 13)
"""How often an object is of class 1..5, percent."""
OBJECTS = (2, 5)
"""Objects per image; later ones hide earlier ones."""
RADIUS = (10, 18)
"""Of an object, pixels."""
SQUEEZE = (11, 16)
"""Width of a form, sixteenths of its height."""
HUE_SPREAD = 130
"""Hues lie at most so far from the middle of their sector; a sector is 1536 / 5 = 307 wide."""
SATURATION = (120, 255)
VALUE = (80, 250)
TEXTURE = (0, 90)
"""How much darker or lighter the pattern on an object is, 256ths."""
PERIOD = (2, 6)
"""Width of a stripe, check or dot, pixels."""
DISTRACTORS = (1, 4)
"""Small blobs and thin bars that belong to the background but have colours of objects, per image."""
BLOB_RADIUS = (1, 3)
"""Pixels; also half the width of a bar."""
GROUND_SATURATION = (0, 200)
GROUND_VALUE = (60, 220)
GROUND_TEXTURE = (0, 60)
BLOTCHES = (0, 110)
"""Strength of the background's smooth noise, 256ths."""
LIGHT = 70
"""Largest change of the light from the middle to an edge of the image, 256ths; along x and along y."""
CAST = (206, 306)
"""Gain of each colour channel of an image, 256ths."""
NOISE = (2, 20)
"""Largest change of a pixel's channel by noise, grey levels of 255."""

_UNIT = 8  # Steps per pixel: coordinates are integers.
_FORMS = 5
_HUES = 1536
_CELL = 8  # Pixels between the knots of the smooth noise.


class _Draws:
    """Random numbers of some images, one row for each; an image's numbers depend on its name only."""

    def __init__(self, names: list[str], count: int) -> None:
        # An extendable hash gives as many bytes as are wanted; little-endian whatever the machine is.
        rows = [hashlib.shake_128(f"rc2l-bench/shapes/{name}".encode()).digest(2 * count) for name in names]
        self._words = np.frombuffer(b"".join(rows), dtype="<u2").reshape(len(names), count).astype(np.int32)
        self._used = 0

    def words(self, count: int) -> Ints:
        """Take the next (N, count) numbers, 0..65535."""
        self._used += count
        assert self._used <= self._words.shape[1], "the images need more draws"
        return self._words[:, self._used - count : self._used]

    def between(self, limits: tuple[int, int]) -> Ints:
        """Draw (N,) integers from the first to the second limit, both included."""
        # Multiply and shift: no number is more likely than another by more than one in 65536.
        return limits[0] + (self.words(1)[:, 0] * (limits[1] - limits[0] + 1) >> 16)

    def pick(self, weights: tuple[int, ...]) -> Ints:
        """Draw (N,) indices with these weights in percent."""
        drawn = self.between((0, sum(weights) - 1))
        return np.searchsorted(np.cumsum(weights), drawn, side="right").astype(np.int32)


def _rotations() -> Ints:
    """List (32, 3) of (a, b, n) with a² + b² = n²: rotations by Pythagorean triples, exact in integers.

    Cosine a / n and sine b / n of 32 angles over the full turn: eight in the first quarter, with their quarter turns.
    """
    quarter = [(64 - p * p, 16 * p, 64 + p * p) for p in range(8)]
    turned = [[(a, b, n), (-b, a, n), (-a, -b, n), (b, -a, n)] for a, b, n in quarter]
    return np.array(turned, dtype=np.int32).reshape(-1, 3)


def _over(values: Values) -> Values:
    """Reshape (N,) to (N, 1, 1), to be combined with pixels."""
    return values[:, None, None]


def _local(draws: _Draws) -> tuple[Ints, Ints]:
    """Compute coordinates (N, H, W) of the pixels as seen from an object at a drawn place and angle, 1/8 pixel."""
    x, y = (_over(draws.between((0, SIZE * _UNIT - 1))) for _ in range(2))
    turn = _rotations()[draws.between((0, 31))]
    a, b, n = (_over(turn[:, i]) for i in range(3))
    at = np.arange(SIZE, dtype=np.int32) * _UNIT + _UNIT // 2
    # Floor division: the same on every machine, also below 0, where C and Python round differently.
    dx, dy = at[None, None, :] - x, at[None, :, None] - y
    return (a * dx + b * dy) // n, (a * dy - b * dx) // n


def _inside(form: Ints, u: Ints, v: Ints, radius: Ints) -> Bools:
    """Find the pixels (N, H, W) that an object covers.

    Args:
        form: (N,) 0..4: disc, square, triangle, ring, cross.
        u: (N, H, W) coordinates from `_local`.
        v: likewise.
        radius: (N,) pixels.
    """
    r = _over(radius * _UNIT)
    across, along, square = np.abs(u), np.abs(v), u * u + v * v
    low, high = np.minimum(across, along), np.maximum(across, along)
    # Compared without roots and quotients: u² + v² < r², 8 u < 7 r and so on are exact.
    forms = (
        square < r * r,
        8 * high < 7 * r,
        (2 * v < r) & (7 * across - 4 * v < 4 * r),
        (square < r * r) & (4 * square > r * r),
        (high < r) & (16 * low < 5 * r),
    )
    return np.select([_over(form) == i for i in range(_FORMS)], forms, default=np.False_)


def _pattern(draws: _Draws, u: Ints, v: Ints, strength: tuple[int, int]) -> Ints:
    """Draw gains (N, H, W) in 256ths: plain, stripes, checks or dots in the object's own coordinates."""
    period = _over(draws.between(PERIOD) * _UNIT)
    kind, amount = _over(draws.between((0, 3))), _over(draws.between(strength))
    stripe, other = (u // period) & 1, (v // period) & 1
    du, dv = u % (2 * period) - period, v % (2 * period) - period
    dots = (2 * (du * du + dv * dv) < period * period).astype(np.int32)
    on: Ints = np.select([kind == 1, kind == 2, kind == 3], [stripe, stripe ^ other, dots], default=1)
    return 256 + amount * (2 * on - 1)


def _rgb(hue: Ints, saturation: Ints, value: Ints) -> Ints:
    """Convert hue 0..1535, saturation and value 0..255 to colours (N, 3), 0..255."""
    sector, rest = hue // 256, hue % 256
    low = value * (255 - saturation) // 255
    falling = value * (65025 - saturation * rest) // 65025
    rising = value * (65025 - saturation * (255 - rest)) // 65025
    red = np.choose(sector, [value, falling, low, low, rising, value])
    green = np.choose(sector, [rising, value, value, falling, low, low])
    blue = np.choose(sector, [low, low, rising, value, value, falling])
    return np.stack([red, green, blue], axis=-1)


def _paint(image: Ints, where: Bools | None, colour: Ints, gain: Ints) -> None:
    """Give pixels (N, H, W) of the images (N, H, W, 3) a colour (N, 3) with gains (N, H, W) in 256ths; None = all."""
    for channel in range(3):
        paint = _over(colour[:, channel]) * gain >> 8
        np.copyto(image[..., channel], paint, where=True if where is None else where)


def _smooth(draws: _Draws) -> Ints:
    """Draw smooth noise (N, H, W), -128..127: a coarse grid, interpolated."""
    knots = SIZE // _CELL + 1  # one beyond the last cell, so that every pixel lies between two
    grid = (draws.words(knots * knots) >> 8).reshape(-1, knots, knots) - 128
    at, weight = np.divmod(np.arange(SIZE, dtype=np.int32), _CELL)
    rows = grid[:, at] * (_CELL - weight)[:, None] + grid[:, at + 1] * weight[:, None]
    both: Ints = rows[:, :, at] * (_CELL - weight) + rows[:, :, at + 1] * weight
    return both // (_CELL * _CELL)


def _lay_ground(draws: _Draws, image: Ints) -> None:
    """Paint background and distractors."""
    colour = _rgb(draws.between((0, _HUES - 1)), draws.between(GROUND_SATURATION), draws.between(GROUND_VALUE))
    gain = _pattern(draws, *_local(draws), GROUND_TEXTURE)
    _paint(image, None, colour, gain + (_smooth(draws) * _over(draws.between(BLOTCHES)) >> 7))
    # Distractors take colours of objects, so that colour alone does not find these.
    count = draws.between(DISTRACTORS)
    for slot in range(DISTRACTORS[1]):
        u, v = _local(draws)
        r, stretch = _over(draws.between(BLOB_RADIUS) * _UNIT), _over(draws.between((1, 8)))
        where = (np.abs(u) < r) & (np.abs(v) < r * stretch) & _over(count > slot)
        colour = _rgb(draws.between((0, _HUES - 1)), draws.between(SATURATION), draws.between(VALUE))
        _paint(image, where, colour, _pattern(draws, u, v, TEXTURE))


def _draw_kind(draws: _Draws) -> tuple[Ints, Ints, Ints]:
    """Draw class, form and hue (N,) of an object: class k + 1 has form k and a hue around the middle of sector k."""
    form = draws.pick(CLASS_WEIGHTS)
    hue = form * _HUES // _FORMS + draws.between((-HUE_SPREAD, HUE_SPREAD))
    return form + 1, form, hue % _HUES


def _place_objects(draws: _Draws, image: Ints) -> Bytes:
    """Paint the objects and return the labels (N, H, W), 0..5 or 255."""
    label = np.zeros(image.shape[:3], dtype=np.uint8)
    owner = np.zeros(image.shape[:3], dtype=np.uint8)
    count = draws.between(OBJECTS)
    # The most objects that there can be, for every image: those beyond its count are drawn and not painted.
    for slot in range(OBJECTS[1]):
        u, v = _local(draws)
        kind, form, hue = _draw_kind(draws)
        # Across is stretched before the form is looked up, which makes the form itself narrower.
        where = _inside(form, 16 * u // _over(draws.between(SQUEEZE)), v, draws.between(RADIUS)) & _over(count > slot)
        _paint(image, where, _rgb(hue, draws.between(SATURATION), draws.between(VALUE)), _pattern(draws, u, v, TEXTURE))
        np.copyto(label, _over(kind).astype(np.uint8), where=where)
        np.copyto(owner, np.uint8(slot + 1), where=where)
    # A void border of one pixel, between objects and not classes: two crates that touch have one, too.
    label[:, :, :-1][owner[:, :, :-1] != owner[:, :, 1:]] = IGNORE
    label[:, :-1, :][owner[:, :-1, :] != owner[:, 1:, :]] = IGNORE
    return label


def _light(draws: _Draws, image: Ints) -> None:
    """Apply light that changes along both axes, and a colour cast."""
    ramp = np.arange(SIZE, dtype=np.int32) * 2 - SIZE + 1
    along = _over(draws.between((-LIGHT, LIGHT))) * ramp[None, None, :]
    down = _over(draws.between((-LIGHT, LIGHT))) * ramp[None, :, None]
    gain = 256 + (along + down) // SIZE
    # Light and cast in one product, which is rounded once.
    for channel in range(3):
        image[..., channel] = image[..., channel] * gain * _over(draws.between(CAST)) >> 16


def _soften(image: Ints) -> Ints:
    """Blur with 1-2-1 along both axes, as a lens would."""
    for axis in (1, 2):
        padded = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in range(4)], mode="edge")
        take = [padded.take(range(i, i + SIZE), axis=axis) for i in range(3)]
        image = (take[0] + 2 * take[1] + take[2] + 2) >> 2
    return image


def _add_noise(names: list[str], draws: _Draws, image: Ints) -> Bytes:
    """Add uniform noise to every channel of every pixel and return uint8.

    After the blur, as a sensor behind a lens does it.
    """
    amount = draws.between(NOISE)[:, None, None, None]
    # A stream of its own: a scene that needs one draw more keeps its noise.
    raw = _Draws([f"{name}/noise" for name in names], image[0].size).words(image[0].size).reshape(image.shape)
    return np.clip(image + ((raw - 32768) * amount >> 15), 0, 255).astype(np.uint8)


def generate(names: list[str]) -> tuple[Bytes, Bytes]:
    """Make images and labels; what an image looks like depends on its name only.

    Args:
        names: N ids.

    Returns:
        (N, 64, 64, 3) uint8 colours and (N, 64, 64) uint8 labels, 0..5 or 255.
    """
    draws = _Draws(names, 512)  # more than a scene takes; `words` makes sure
    image = np.zeros((len(names), SIZE, SIZE, 3), dtype=np.int32)
    _lay_ground(draws, image)
    label = _place_objects(draws, image)
    _light(draws, image)
    return _add_noise(names, draws, _soften(image)), label
