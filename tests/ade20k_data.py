"""A small archive of exactly the layout of ADEChallengeData2016.zip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from archives_data import Files, expecting, jpeg, pack_zip, png, scene

from rc2l_bench.data.datasets.ade20k import TOP
from rc2l_bench.data.datasets.base import Dataset

NAME = "ADEChallengeData2016.zip"
IDS = {
    "train": [f"ADE_train_{number:08d}" for number in range(1, 13)],
    "val": [f"ADE_val_{number:08d}" for number in range(1, 4)],
}
COUNTS = {part: len(ids) for part, ids in IDS.items()}
FOLDERS = {"train": "training", "val": "validation"}


def image(part: str, identity: str) -> str:
    return f"{TOP}/images/{FOLDERS[part]}/{identity}.jpg"


def mask(part: str, identity: str) -> str:
    return f"{TOP}/annotations/{FOLDERS[part]}/{identity}.png"


def size_of(identity: str) -> tuple[int, int]:
    """Images differ in size, as ADE20K's do."""
    return (48, 64) if int(identity[-1]) % 2 else (64, 50)


def picture(identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels 0..150, 0 for whatever is none of the classes."""
    return scene(sum(identity.encode()), size_of(identity), 151)


def files() -> Files:
    found = {f"{TOP}/objectInfo150.txt": b"Idx\n", f"{TOP}/sceneCategories.txt": b"ADE_train_00000001 attic\n"}
    for part, ids in IDS.items():
        found |= {image(part, name): jpeg(picture(name)[0]) for name in ids}
        found |= {mask(part, name): png(picture(name)[1]) for name in ids}
    return found


def write(
    folder: Path, *, leave_out: str = "", changes: Files | None = None, counts: dict[str, int] = COUNTS
) -> Dataset:
    """The archive in a folder, without one member and with other bytes of some; `ade20k`, made to expect it."""
    folder.mkdir(parents=True, exist_ok=True)
    pack_zip(
        folder / NAME, {path: (changes or {}).get(path, data) for path, data in files().items() if path != leave_out}
    )
    return expecting("ade20k", folder, counts)
