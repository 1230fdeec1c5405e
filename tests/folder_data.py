"""A checkout with images of a user, and what a test says about them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rc2l_bench.data.datasets.folder import Folder
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.errors import BenchError

RAW = Path("data/raw/mine")
COLOURS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
RED_GREEN_BLUE = np.array(COLOURS, np.uint8)


def pixels(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labels(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)


def png(array: np.ndarray, kind: str = "png", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(array).save(target, "JPEG" if kind == "jpg" else "PNG", **options)
    return target.getvalue()


def write_images(root: Path, count: int = 10) -> None:
    """Images p0, p1, … with masks of three classes, in the folders `photos` and `masks` of a checkout."""
    for folder in ("photos", "masks", "datasets"):
        (root / folder).mkdir(exist_ok=True)
    for index in range(count):
        (root / "photos" / f"p{index}.png").write_bytes(png(pixels(index)))
        (root / "masks" / f"p{index}.png").write_bytes(png(labels(index)))


def describe(name: str = "mine", **changes: Any) -> None:
    """Write the yaml (JSON is YAML) into the current folder; a value of None leaves a key out."""
    plain = {"images": "photos", "masks": "masks", "classes": ["a", "b", "c"]}
    plain |= {"shares": {"val": 0.2, "test": 0.1, "seed": 0}} | changes
    kept = {key: value for key, value in plain.items() if value is not None}
    Path("datasets").mkdir(exist_ok=True)
    Path(f"datasets/{name}.yaml").write_text(json.dumps(kept))


def prepared(raw: Path = RAW, **changes: Any) -> Folder:
    describe(**changes)
    dataset = load_dataset("mine")
    assert isinstance(dataset, Folder)
    dataset.prepare(raw)
    return dataset


def ids(dataset: Folder, raw: Path = RAW) -> dict[str, list[str]]:
    return {part: [sample.id for sample in dataset.samples(raw, part)] for part in ("train", "val", "test")}


def every_id(dataset: Folder, raw: Path = RAW) -> list[str]:
    return sorted(identity for part in ids(dataset, raw).values() for identity in part)


def fault(raw: Path = RAW, **changes: Any) -> str:
    """The one line that a wrong description or a wrong file ends in."""
    with pytest.raises(BenchError) as caught:
        ids(prepared(raw, **changes), raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)
