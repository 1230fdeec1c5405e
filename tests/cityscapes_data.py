"""Small archives of exactly the layout of gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from archives_data import Files, expecting, pack_zip, png, scene

from rc2l_bench.data.datasets.base import Dataset

SIZE = (64, 128)
IDS = {
    "train": [f"{city}_{number:06d}_000019" for city in ("farville", "nowhere") for number in range(8)],
    "val": [f"some-town_{number:06d}_000019" for number in range(4)],
    "test": [f"elsewhere_{number:06d}_000019" for number in range(3)],
}
COUNTS = {part: len(ids) for part, ids in IDS.items()}


def image(part: str, identity: str) -> str:
    return f"leftImg8bit/{part}/{identity.split('_')[0]}/{identity}_leftImg8bit.png"


def mask(part: str, identity: str) -> str:
    return f"gtFine/{part}/{identity.split('_')[0]}/{identity}_gtFine_labelIds.png"


def size_of(identity: str) -> tuple[int, int]:
    """All images are of one size, as Cityscapes' are."""
    return SIZE


def picture(identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and labelIds 0..33."""
    return scene(sum(identity.encode()), size_of(identity), 34)


def image_files() -> Files:
    files = {"README": b"read me\n", "license.txt": b"licence\n"}
    return files | {image(part, name): png(picture(name)[0]) for part, ids in IDS.items() for name in ids}


def mask_files() -> Files:
    """With instances, colours and polygons; the test part has placeholders."""
    files = {"README": b"read me\n", "license.txt": b"licence\n"}
    for part, ids in IDS.items():
        for name in ids:
            labels = np.zeros(size_of(name), np.uint8) if part == "test" else picture(name)[1]
            stem = mask(part, name).removesuffix("labelIds.png")
            files |= {f"{stem}{kind}.png": png(labels) for kind in ("color", "instanceIds", "labelIds")}
            files[f"{stem}polygons.json"] = b"{}"
    return files


def write(
    folder: Path, *, leave_out: str = "", changes: Files | None = None, counts: dict[str, int] = COUNTS
) -> Dataset:
    """Both archives in a folder, without one member and with other bytes of some; `cityscapes`, made to expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    both = {"gtFine_trainvaltest.zip": mask_files(), "leftImg8bit_trainvaltest.zip": image_files()}
    for name, files in both.items():
        pack_zip(
            folder / name, {path: (changes or {}).get(path, data) for path, data in files.items() if path != leave_out}
        )
    return expecting("cityscapes", folder, counts)
