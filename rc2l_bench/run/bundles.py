"""Bundles: the files of a result as one tar, because stores count files and requests more than bytes."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rc2l_bench.files import naming
from rc2l_bench.readers import DamagedFileError, reading


def pack(folder: Path, names: Iterable[str], bundle: Path) -> None:
    """Put files of a folder into a tar whose bytes depend on names and contents alone.

    Args:
        folder: where they lie.
        names: of files, as paths inside the folder.
        bundle: the tar; must not be there.
    """
    with naming(bundle), tarfile.open(bundle, "x:", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(names):
            member = tarfile.TarInfo(name)
            member.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as file:
                tar.addfile(member, file)


def unpack(bundle: Path, folder: Path, names: Iterable[str]) -> None:
    """Take files out of a tar that `pack` made; ids of images are parts of names, so any sign may be in them.

    Args:
        bundle: the tar.
        folder: where they go; nothing is written outside.
        names: of all files that it should hold.

    Raises:
        DamagedFileError: it holds other files, or a name leads out of the folder.
    """
    left = set(names)
    with reading(bundle), tarfile.open(bundle, "r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.name not in left or not member.isreg() or path.is_absolute() or ".." in path.parts:
                raise DamagedFileError(f"{bundle}: holds '{member.name}', which is not to be there")
            left.remove(member.name)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None, "it is a regular file"
            with naming(folder / path), (folder / path).open("xb") as target:
                shutil.copyfileobj(source, target)
    if left:
        raise DamagedFileError(f"{bundle}: has no '{min(left)}'")
