"""The user's masks become class indices; colours for classes that have none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rc2l_bench.data.datasets.folder_config import Colour, FolderConfig
from rc2l_bench.data.decode import Pixels, decode_image, decode_mask, encode_mask
from rc2l_bench.data.image_headers import GREY, PALETTE, PNG_SIGNATURE, read_header
from rc2l_bench.errors import BenchError
from rc2l_bench.types import IGNORE

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
    """Make of a user's mask an 8-bit PNG of class indices and 255; it is passed on untouched where it is one.

    Args:
        data: the bytes of the file.
        name: its path, for messages.
        config: what the numbers or colours in it mean.

    Raises:
        BenchError: it is no such PNG, or has a value or colour that no class has.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise BenchError(f"{name}: not a PNG: a mask must be stored without loss")
    if config.masks_hold == "colours":
        return encode_mask(_match(decode_image(data, name), name, config), stored=True)
    header = read_header(data, name)
    single = header.colour in (GREY, PALETTE)
    table = class_of_value(config)
    if table is None and single and header.depth == 8:
        return data
    values = decode_mask(data, name) if single else _one_channel(data, name)
    return encode_mask(values if table is None else _look_up(values, table, name), stored=True)


def class_of_value(config: FolderConfig) -> NDArray[np.int16] | None:
    """Give the class of every mask value: (256,) 0..K-1, 255 = ignored, -1 = none; None where a value is its class."""
    if not (config.values or config.reduce_zero_label or config.ignore):
        return None
    table = np.full(IGNORE + 1, IGNORE if config.ignore == "others" else -1, np.int16)
    table[IGNORE] = IGNORE
    if config.values:
        for value, label in config.values.items():
            table[value] = config.names.index(label)
    else:
        first = int(config.reduce_zero_label)
        table[:first] = IGNORE
        table[first : first + len(config.names)] = range(len(config.names))
    if config.ignore != "others":
        table[list(config.ignore)] = IGNORE
    return table


def _look_up(values: Pixels, table: NDArray[np.int16], name: str) -> Pixels:
    labels = table[values]
    strange = values[labels < 0]
    if strange.size:
        count = int((strange == strange[0]).sum())
        raise BenchError(
            f"{name}: the value {strange[0]} ({count} pixels) belongs to no class: see values, ignore in its yaml"
        )
    return labels.astype(np.uint8)


def _one_channel(data: bytes, name: str) -> Pixels:
    """The values of a mask that some tool has saved with three equal channels."""
    pixels = decode_image(data, name)
    if (pixels != pixels[..., :1]).any():
        raise BenchError(
            f"{name}: has colours, but its yaml says that masks hold indices: for colours of classes give `colours` "
            "and `masks_hold: colours`"
        )
    return np.ascontiguousarray(pixels[..., 0])


def _match(pixels: Pixels, name: str, config: FolderConfig) -> Pixels:
    """(H, W, 3) colours -> (H, W) indices."""
    assert config.colours is not None, name
    table = _class_of_colour(tuple(config.colours), config.ignore_colours, config.tolerance)
    labels = table[pixels[..., 0], pixels[..., 1], pixels[..., 2]]
    strange = pixels[labels < 0]
    if strange.size:
        count = int((strange == strange[0]).all(1).sum())
        raise BenchError(
            f"{name}: the colour {strange[0].tolist()} ({count} pixels) belongs to no class: see colours, "
            "ignore_colours and tolerance in its yaml"
        )
    return labels.astype(np.uint8)


@lru_cache(maxsize=1)
def _class_of_colour(colours: tuple[Colour, ...], ignored: tuple[Colour, ...], tolerance: int) -> NDArray[np.int16]:
    """(256, 256, 256) class of every colour, -1 = none: 32 MB, for a look-up that does not grow with the classes."""
    table = np.full((256, 256, 256), -1, np.int16)
    for label, colour in [*enumerate(colours), *((IGNORE, colour) for colour in ignored)]:
        # The boxes do not overlap, see `FolderConfig`.
        table[tuple(slice(max(0, value - tolerance), value + tolerance + 1) for value in colour)] = label
    return table


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
