"""Small archives of exactly the layout of VOCtrainval_11-May-2012.tar and of SBD's benchmark.tgz."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from archives_data import Files, expecting, jpeg, pack_tar, png, scene
from scipy.io import savemat
from scipy.sparse import csc_array

from rc2l_bench.data.datasets.base import Dataset
from rc2l_bench.data.datasets.voc import Voc

VOC, SBD = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
CLEAN = [f"2099_{number:06d}" for number in (3, 9, 27, 81)]
"""VOC's train list; the first two have another mask in SBD too."""
VAL = [f"2099_{number:06d}" for number in (1, 2, 4)]
"""VOC's val list; the first is in SBD's train list, too, the second in its val list."""
MORE = [f"2098_{number:06d}" for number in range(5, 13)]
"""Only in SBD; the last two in its val list."""
TRAIN = sorted(CLEAN + MORE)
COUNTS = {"train": len(TRAIN), "val": len(VAL)}
PALETTE = [value for colour in Voc.palette for value in colour] + [0, 0, 0] * 234 + [224, 224, 192]


def size_of(identity: str) -> tuple[int, int]:
    """Images differ in size, as VOC's do."""
    return (48, 64) if int(identity[-2:]) % 2 else (64, 50)


def picture(identity: str) -> tuple[np.ndarray, np.ndarray]:
    """Image and classes."""
    return scene(int(identity.replace("_", "")), size_of(identity), len(Voc.classes))


def with_border(mask: np.ndarray) -> np.ndarray:
    """VOC's masks: void where classes meet, and at the left edge."""
    out = mask.copy()
    out[:, 1:][mask[:, 1:] != mask[:, :-1]] = 255
    out[:, 0] = 255
    return out


def mat(mask: np.ndarray) -> bytes:
    """A file of SBD's folder cls: GTcls.{Boundaries, Segmentation, CategoriesPresent}."""
    boundaries = np.empty((20, 1), object)
    for label in range(20):
        boundaries[label, 0] = csc_array(mask == label + 1, dtype=np.float64)
    present = np.setdiff1d(np.unique(mask), [0, 255]).astype(np.uint8)[:, None]
    data = io.BytesIO()
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    savemat(data, {"GTcls": content}, do_compression=True)
    return data.getvalue()


def lines(ids: list[str]) -> bytes:
    return "".join(f"{identity}\n" for identity in ids).encode()


def voc_files() -> Files:
    files = {
        f"{VOC}/ImageSets/Segmentation/train.txt": lines(CLEAN),
        f"{VOC}/ImageSets/Segmentation/trainval.txt": lines(sorted(CLEAN + VAL)),
        f"{VOC}/ImageSets/Segmentation/val.txt": lines(VAL),
        f"{VOC}/ImageSets/Main/train.txt": lines(MORE),
    }
    for identity in sorted(CLEAN + VAL + MORE + ["2097_000001"]):
        image, mask = picture(identity)
        files[f"{VOC}/Annotations/{identity}.xml"] = b"<annotation></annotation>\n"
        files[f"{VOC}/JPEGImages/{identity}.jpg"] = jpeg(image)
        if identity in CLEAN + VAL:
            files[f"{VOC}/SegmentationClass/{identity}.png"] = png(with_border(mask), PALETTE)
            files[f"{VOC}/SegmentationObject/{identity}.png"] = png(mask, PALETTE)
    return files


def sbd_files() -> Files:
    train, val = sorted(MORE[:-2] + CLEAN[:2] + VAL[:1]), sorted(MORE[-2:] + VAL[1:2])
    files = {"benchmark_RELEASE/README": b"read me\n", f"{SBD}/train.txt": lines(train), f"{SBD}/val.txt": lines(val)}
    for identity in train + val:
        mask = picture(identity)[1]
        files[f"{SBD}/cls/{identity}.mat"] = mat(mask)
        files[f"{SBD}/img/{identity}.jpg"] = jpeg(picture(identity)[0])
        files[f"{SBD}/inst/{identity}.mat"] = mat(mask)
    return files


def write(
    folder: Path, *, leave_out: str = "", changes: Files | None = None, counts: dict[str, int] = COUNTS
) -> Dataset:
    """Both archives in a folder, without one member and with other bytes of some; `voc`, made to expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    for (name, mode), files in zip((("VOCtrainval_11-May-2012.tar", "w"), ("benchmark.tgz", "w:gz")),
                                   (voc_files(), sbd_files()), strict=True):  # fmt: skip
        kept = {path: (changes or {}).get(path, data) for path, data in files.items() if path != leave_out}
        pack_tar(folder / name, kept, mode)
    return expecting("voc", folder, counts)
