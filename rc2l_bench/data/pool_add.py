"""Writing a pool of unlabelled images into `datasets/<name>.yaml`, by reference."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from rc2l_bench.data.datasets.folder_add import check_name
from rc2l_bench.data.datasets.registry import BUILT_IN, FOLDER, load_dataset
from rc2l_bench.data.pool_sources import resolve
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.files import write_atomically


def check_places(places: Sequence[str]) -> None:
    """Make sure that every place of a pool stands for something; what is far away is not looked at.

    Raises:
        UsageError: one does not.
    """
    for place in places:
        resolve(place)


def extend_dataset(name: str, base: str, places: Sequence[str]) -> Path:
    """Describe a data set that is another one with more unlabelled images.

    Args:
        name: of the new data set.
        base: of the one that it extends.
        places: folders, tars or addresses of images; see `check_places`.

    Returns:
        The yaml.

    Raises:
        UsageError: a name is wrong; nothing is written then.
    """
    path = check_name(name)
    _write(path, {"extends": base, "pool": list(places)})
    return path


def add_places(name: str, places: Sequence[str]) -> Path:
    """Add places to the pool of a data set that is described already; its other keys and comments stay.

    Args:
        name: of the data set.
        places: folders, tars or addresses of images; see `check_places`.

    Returns:
        The yaml.

    Raises:
        UsageError: there is none of that name, or it has a stream; nothing is changed then.
    """
    path = FOLDER / f"{name}.yaml"
    if name in BUILT_IN:
        raise UsageError(f"'{name}' is built in: name your own, `data add {name}-more --extends {name} --unlabelled …`")
    if not path.is_file():
        raise UsageError(f"there is no dataset '{name}' yet: give --images and --masks, or --extends")
    load_dataset(name)  # its faults are told in one line here
    content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    present = content.get("pool") or []
    if isinstance(present, dict):
        raise UsageError(f"{path}: pool: is a stream, which has nothing beside it: edit it there")
    known = [present] if isinstance(present, str) else list(present)
    content["pool"] = known + [place for place in places if place not in known]
    content.fa.set_block_style()  # within {…}, as in JSON, the colon of an address would be no part of it
    _write(path, content)
    return path


def _write(path: Path, content: Any) -> None:  # noqa: ANN401 - what ruamel keeps comments in
    """Writes a description, and takes it back where it turns out to be wrong."""
    before = path.read_bytes() if path.is_file() else None
    text = io.StringIO()
    YAML(typ="rt").dump(content, text)
    write_atomically(path, text.getvalue().encode())
    try:
        load_dataset(path.stem)
    except BenchError:
        if before is None:
            path.unlink()
        else:
            write_atomically(path, before)
        raise
