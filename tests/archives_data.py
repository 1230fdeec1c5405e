"""Small archives that stand for the large ones: packing, their sources, and a checkout that expects them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_data
from PIL import Image

from rc2l_bench.config import Params, load
from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.base import Dataset, Source
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.errors import BenchError
from rc2l_bench.run.pipeline import cell_stages

ROOT = Path(__file__).parents[1]
Files = dict[str, bytes]

PATCH = """
import json
from pathlib import Path
from rc2l_bench.data.datasets.base import Source
from rc2l_bench.data.datasets.registry import load_dataset

for name, (sources, counts) in json.loads(Path({path!r}).read_text()).items():
    kind = type(load_dataset(name))
    kind.sources = tuple(Source(**source) for source in sources)
    kind.counts = counts
    kind.rare_classes = kind.classes
"""
"""Stages are other processes: this makes them expect the small archives, which cannot show every class."""


def jpeg(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=90)
    return data.getvalue()


def png(image: np.ndarray, palette: list[int] | None = None) -> bytes:
    """Grey, or with a palette."""
    picture = Image.fromarray(image)
    if palette:
        picture.putpalette(palette)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def scene(seed: int, size: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) of coloured blocks on a ground, and the class of every pixel."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, np.uint8)
    for label in rng.choice(classes, 4):
        top, left = rng.integers(0, (size[0] - 8, size[1] - 8))
        mask[top : top + size[0] // 3, left : left + size[1] // 3] = label
    colours = np.random.default_rng(0).integers(20, 235, (256, 3))
    return np.clip(colours[mask] + rng.normal(0, 9, (*size, 3)), 0, 255).astype(np.uint8), mask


def pack_tar(path: Path, files: Files, mode: str = "w") -> None:
    """With members for the folders, as real ones have."""
    with tarfile.open(path, mode) as tar:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents} - {"."}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pack_zip(path: Path, files: Files) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def describe(source: Source, path: Path) -> Source:
    """A source whose size and checksum are those of a file, and whose official address is out of reach."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return replace(source, url="http://127.0.0.1:9/gone", size=path.stat().st_size, checksum=f"md5:{digest}")


def expecting(dataset: str, folder: Path, counts: dict[str, int]) -> Dataset:
    """The data set, made to expect the archives in a folder."""
    kind = type(load_dataset(dataset))
    sources = tuple(describe(source, folder / source.name) for source in kind.sources)
    changes = {"sources": sources, "counts": counts, "rare_classes": kind.classes}
    return type(kind.__name__, (kind,), changes)()


def pass_the_door(dataset: Dataset, raw: Path) -> None:
    """Look at every sample once, as the stages do before anything is made of them."""
    dataset.prepare(raw)
    catalog.make(dataset, raw)


def complaint(dataset: Dataset, raw: Path) -> str:
    """What is said of a data set that does not pass."""
    with pytest.raises(BenchError) as caught:
        pass_the_door(dataset, raw)
    return str(caught.value)


def publish(root: Path, dataset: Dataset, split: str, definition: str, lines: list[str]) -> None:
    """Write the definition of a published list of labelled images, and the list itself into the mirror."""
    (root / f"mirror/{dataset.name}-{split}-one.txt").write_text("".join(f"{line}\n" for line in lines))
    (root / "splits").mkdir()
    (root / f"splits/{dataset.name}.yaml").write_text(definition)


def write_checkout(
    root: Path, dataset: Dataset, mirror: Path, split: str, method: str, **changes: Any
) -> dict[str, str]:
    """The files of a checkout whose protocol for a data set is the real one on a smaller scale.

    Returns:
        Environment for its stages.
    """
    real = load(Params, ROOT / "params.yaml").protocol[dataset.name].model_dump(mode="json")
    small = {"net": tiny_data.NET, "batch": tiny_data.PROTOCOL["batch"], "steps": 4}
    grid = {"dataset": [dataset.name], "split": [split], "method": [method], "seed": [0]}
    protocol = tiny_data.merged(tiny_data.merged(real, small), changes)
    lay_out(root, tiny_data.params(protocol={dataset.name: protocol}, grid=grid))
    return environment(root, dataset, mirror)


def lay_out(root: Path, params: dict[str, Any]) -> None:
    """The files of a checkout with other parameters."""
    for name in ("baselines", "pipelines", "reports/templates"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    tiny_data.write_yaml(root / "params.yaml", params)


def environment(root: Path, dataset: Dataset, mirror: Path) -> dict[str, str]:
    """Environment in which the stages of a checkout take a data set's small archives for the real ones."""
    site = root / "site"
    site.mkdir()
    wanted = {dataset.name: ([asdict(source) for source in dataset.sources], dataset.counts)}
    (site / "expected.json").write_text(json.dumps(wanted))
    (site / "sitecustomize.py").write_text(PATCH.format(path=str(site / "expected.json")))
    return {"PYTHONPATH": os.pathsep.join([str(site), str(tiny_data.ROOT)]), "RC2L_BENCH_MIRROR": str(mirror)}


def run_stages(launch: Any, root: Path, env: dict[str, str], dataset: str, split: str, method: str) -> Path:
    """Carries out the stages of dvc.yaml for one cell, and the report.

    Returns:
        Folder of the run.
    """
    run = run_cell(launch, root, env, dataset, split, method)
    call(launch, ["pipelines.report", "runs", "reports"], root, env)
    return run


def run_cell(launch: Any, root: Path, env: dict[str, str], dataset: str, split: str, method: str) -> Path:
    """Carries out the stages of dvc.yaml for one cell.

    Returns:
        Folder of the run.
    """
    cell = {"dataset": dataset, "split": split, "method": method, "seed": "0"}
    for stage in cell_stages(cell, root):
        call(launch, stage.command[2:], root, env)
    return root / "runs" / dataset / split / method / "seed0"


def call(launch: Any, command: list[str], root: Path, env: dict[str, str]) -> None:
    found = launch(*command, cwd=root, **env)
    assert found.returncode == 0, f"{command}: {found.stderr}"
