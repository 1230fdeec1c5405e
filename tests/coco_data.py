"""Small archives of exactly the layout of COCO 2017's."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from archives_data import Files, expecting, jpeg, pack_zip

from rc2l_bench.data.datasets.base import Dataset
from rc2l_bench.data.datasets.coco_instances import CATEGORIES, CocoInstances

IDS = {"train": [9, 25, 30, 34, 36, 49, 61, 64, 71, 72, 581929, 177254], "val": [139, 285, 632]}
"""In no order, as in the real files."""
COUNTS = {part: len(ids) for part, ids in IDS.items()}
ANNOTATIONS = "annotations_trainval2017.zip"
LABELS = {number: label for label, number in enumerate(CATEGORIES, start=1)}
NAMES = dict(zip(CATEGORIES, CocoInstances.classes[1:], strict=True))
PERSON, DOG, ZEBRA = 1, 18, 24
"""Numbers of categories; their labels are 1, 17 and 23."""


def name_of(number: int) -> str:
    return f"{number:012d}"


def size_of(number: int) -> tuple[int, int]:
    return (48, 64) if number % 2 else (64, 40)


def member(part: str) -> str:
    return f"annotations/instances_{part}2017.json"


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths down the columns, zeros first, without compression."""
    flat = mask.astype(np.uint8).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2)) if flat.size else []
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def regions_of(number: int) -> list[dict[str, Any]]:
    """A large person of two polygons, a small dog in front of it, and a crowd of zebras behind both."""
    if number in (36, 632):
        return []
    crowd = np.zeros(size_of(number), bool)
    crowd[:20, :30] = True
    shift = number % 7
    person = [box(8 + shift, 10, 28 + shift, 36), box(2, 40, 12, 44)]
    return [
        {"category_id": DOG, "iscrowd": 0, "segmentation": [box(10 + shift, 12, 18 + shift, 20)]},
        {"category_id": PERSON, "iscrowd": 0, "segmentation": person},
        {"category_id": ZEBRA, "iscrowd": 1, "segmentation": runs(crowd)},
    ]


def classes_of(number: int) -> np.ndarray:
    """The mask that the regions mean."""
    mask = np.zeros(size_of(number), np.uint8)
    if regions_of(number):
        shift = number % 7
        mask[:20, :30] = 23
        mask[10:36, 8 + shift : 28 + shift] = 1
        mask[40:44, 2:12] = 1
        mask[12:20, 10 + shift : 18 + shift] = 17
    return mask


def document(part: str) -> dict[str, Any]:
    """One JSON, with the fields that nobody here reads, too."""
    images = [
        {"license": 1, "file_name": f"{name_of(number)}.jpg", "height": size_of(number)[0], "width": size_of(number)[1],
         "date_captured": "2099-01-01 00:00:00", "id": number} for number in IDS[part]
    ]  # fmt: skip
    found = [region | {"image_id": number, "area": 1.5, "bbox": [0, 0, 1, 1], "id": 10 * number + place}
             for number in IDS[part] for place, region in enumerate(regions_of(number))]  # fmt: skip
    return {
        "info": {"description": "made up"},
        "licenses": [{"id": 1, "name": "none"}],
        "images": images,
        "annotations": found[1::2] + found[0::2],
        "categories": [{"supercategory": "x", "id": number, "name": label} for number, label in NAMES.items()],
    }


def changed(part: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The documents, one of which was changed."""
    content = copy.deepcopy(document(part))
    change(content)
    return {"documents": {part: content}}


def image_of(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    colours = np.random.default_rng(0).integers(20, 235, (81, 3))
    image = colours[classes_of(number)] + rng.normal(0, 9, (*size_of(number), 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def image_files(part: str) -> Files:
    return {f"{part}2017/{name_of(number)}.jpg": jpeg(image_of(number)) for number in IDS[part]}


def write(
    folder: Path,
    *,
    leave_out: str = "",
    changes: Files | None = None,
    documents: dict[str, Any] | None = None,
    counts: dict[str, int] = COUNTS,
) -> Dataset:
    """The three archives in a folder, some members missing or changed; `coco_instances`, made to expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {part: document(part) for part in IDS} | (documents or {})
    archives = {
        ANNOTATIONS: {member(part): json.dumps(content).encode() for part, content in whole.items()}
        | {"annotations/captions_val2017.json": b"{}"},
        "train2017.zip": image_files("train"),
        "val2017.zip": image_files("val"),
    }
    for name, files in archives.items():
        kept = {path: (changes or {}).get(path, data) for path, data in files.items() if path != leave_out}
        pack_zip(folder / name, kept)
    return expecting("coco_instances", folder, counts)
