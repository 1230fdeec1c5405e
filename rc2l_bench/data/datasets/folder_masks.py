"""The user's masks become class indices; colours for classes that have none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.data.datasets.folder_config import Colour, FolderConfig
from rc2l_bench.data.decode import decode_image, decode_mask, encode_mask
from rc2l_bench.errors import BenchError
from rc2l_bench.types import IGNORE

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH = 24
"""Offset of the bits per channel in a PNG (W3C PNG specification, IHDR)."""
_OKABE_ITO: tuple[Colour, ...] = (
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_SHADES = 18


def to_indices(data: bytes, name: str, config: FolderConfig) -> bytes:
    """A user's mask as an 8-bit PNG of class indices and 255; it is passed on untouched where it is one.

    Args:
        data: the bytes of the file.
        name: its path, for messages.
        config: what the numbers or colours in it mean.

    Raises:
        BenchError: it is no such PNG, or has a colour that no class has.
    """
    if not data.startswith(_PNG):
        raise BenchError(f"{name}: not a PNG: a mask must be stored without loss")
    if config.masks_hold == "colours":
        return encode_mask(_match(decode_image(data, name), name, config), stored=True)
    if not config.ignore and data[_DEPTH : _DEPTH + 1] == b"\x08":
        return data
    mask = decode_mask(data, name)
    return encode_mask(np.where(np.isin(mask, config.ignore), np.uint8(IGNORE), mask), stored=True)


def _match(pixels: NDArray[np.uint8], name: str, config: FolderConfig) -> NDArray[np.uint8]:
    """(H, W, 3) colours -> (H, W) indices."""
    assert config.colours is not None, name
    known = _codes(np.array([*config.colours, *config.ignore_colours], np.uint8))
    labels = np.array([*range(len(config.colours)), *[IGNORE] * len(config.ignore_colours)], np.uint8)
    order = np.argsort(known)
    codes = _codes(pixels)
    at = np.searchsorted(known, codes, sorter=order).clip(max=len(known) - 1)
    strange = codes[known[order[at]] != codes]
    if strange.size:
        code = int(strange[0])
        colour = [code >> 16, code >> 8 & 255, code & 255]
        count = int((strange == code).sum())
        raise BenchError(
            f"{name}: the colour {colour} ({count} pixels) belongs to no class: see colours, ignore_colours"
        )
    indices: NDArray[np.uint8] = labels[order[at]]
    return indices


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(..., 3) bytes -> (...) numbers, red highest."""
    wide = pixels.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def default_palette(count: int) -> Sequence[Colour]:
    """Distinct colours for up to 255 classes: Okabe and Ito's eight, then darker and lighter shades of them."""
    return [_shade(_OKABE_ITO[index % 8], index // 8) for index in range(count)]


def _shade(colour: Colour, turn: int) -> Colour:
    """Odd turns are darker, even ones lighter; black has no darker shade and becomes ever lighter greys."""
    if not any(colour):
        return (7 * turn, 7 * turn, 7 * turn)
    amount, goal = (turn + 1) // 2, 255 * (turn % 2 == 0)
    red, green, blue = (channel + (goal - channel) * amount // _SHADES for channel in colour)
    return red, green, blue
