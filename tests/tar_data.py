"""Tars of images as somebody else makes them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from shards_data import picture

from rc2l_bench.data.decode import encode_image


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """A tar with members in the order that they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def png(number: int) -> bytes:
    """The image of a number; see `shards_data.picture`."""
    return encode_image(picture(number)[0], stored=True)


def image_tar(path: Path, numbers: range) -> Path:
    """A tar of such images, `007.png` and so on, with a caption beside each."""
    members = {}
    for number in numbers:
        members |= {f"{number:03d}.png": png(number), f"{number:03d}.txt": b"a picture"}
    return write_tar(path, members)
