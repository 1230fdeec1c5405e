"""The data sets: built in, or described by the user's own `datasets/<name>.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from rc2l_bench.data.datasets.base import Dataset
from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.study import name_package

BUILT_IN = {
    "shapes": "Shapes", "camvid": "CamVid", "voc": "Voc", "cityscapes": "Cityscapes", "ade20k": "Ade20k",
    "coco_instances": "CocoInstances",
}  # fmt: skip
"""Module of rc2l_bench.data.datasets -> its class."""
FOLDER = Path("datasets")
"""Where the checkout keeps the user's own data sets."""
PACKAGE = Path("rc2l_bench")
"""The instrument in a checkout; a study has none."""


def names() -> list[str]:
    """List the data sets that can be asked for here, built-in ones first."""
    return [*BUILT_IN, *sorted(path.stem for path in FOLDER.glob("*.yaml"))]


def _load_tuning(name: str) -> Dataset:
    """The images on which a data set is tuned: generated ones for `shapes`, else held-out training images."""
    from rc2l_bench.config import Params, load
    from rc2l_bench.data.datasets.held_out import HeldOut
    from rc2l_bench.data.datasets.shapes import Shapes, TuningShapes

    base = load_dataset(name)
    if isinstance(base, Shapes):
        return TuningShapes()
    split = load(Params, Path("params.yaml")).split
    return HeldOut(base, split.held_out, split.seed)


def inputs_of(name: str) -> Iterable[Path]:
    """List the files outside of `data` that a data set is made of, see `Dataset.inputs`; those built in have none.

    Raises:
        UsageError: there is none of that name, or its yaml does not fit the files.
    """
    return () if name in BUILT_IN else load_dataset(name).inputs()


def render_inputs(name: str) -> bytes:
    """List the files outside of `data` that a data set is made of, as the stage `scan` writes them.

    Returns:
        A line of size, time of change and name for each; in a study, whose stages cannot depend on the files of the
        package, also a line that names the package.

    Raises:
        UsageError: see `inputs_of`.
    """
    states = {path.as_posix(): path.stat() for path in inputs_of(name)}
    # Unlike names, their Python literals are always text: they may hold line breaks and bytes that are no UTF-8.
    lines = [f"{state.st_size}\t{state.st_mtime_ns}\t{path!a}\n" for path, state in sorted(states.items())]
    package = [] if PACKAGE.is_dir() else [f"# rc2l_bench {name_package()}\n"]
    return "".join(["# size, time of change in ns, name\n", *package, *lines]).encode()


def load_dataset(name: str) -> Dataset:
    """Find a data set by its name.

    Args:
        name: a built-in data set, or the stem of a file in the checkout's folder `datasets`; `tuning-` before it
            stands for the images that it is tuned on.

    Raises:
        UsageError: there is none of that name, or its yaml is wrong.
    """
    # Here, because whoever only asks which names there are need not wait for the typed configuration.
    from rc2l_bench.config import TUNING

    if name.startswith(TUNING):
        return _load_tuning(name.removeprefix(TUNING))
    if name in BUILT_IN:
        found = getattr(import_module(f"rc2l_bench.data.datasets.{name}"), BUILT_IN[name])()
        assert isinstance(found, Dataset)
        return found
    path = FOLDER / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or not path.is_file():
        raise UsageError(f"unknown dataset '{name}': {suggest(name, names())} (your own: rc2l-bench data add)")
    return _load_own(path)


def _load_own(path: Path) -> Dataset:
    """A data set that a yaml describes: own images, or another data set with a larger pool."""
    from rc2l_bench.data.datasets.extended import Extended, ExtendedConfig
    from rc2l_bench.data.datasets.folder import Folder
    from rc2l_bench.schema import load, read_yaml

    content = read_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return Folder(path)
    config = load(ExtendedConfig, path)
    if config.extends == path.stem or config.extends not in names():
        raise UsageError(f"{path}: extends: unknown dataset '{config.extends}': {suggest(config.extends, names())}")
    base = load_dataset(config.extends)
    if isinstance(base, Extended):
        raise UsageError(f"{path}: extends: '{config.extends}' extends a data set itself: extend '{base.base.name}'")
    return Extended(path, base, config)
