"""Load the network of a finished run, and predict with it as the run was scored."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from rc2l_bench.config import EvalConfig, Protocol
from rc2l_bench.data.datasets.registry import BUILT_IN, load_dataset
from rc2l_bench.data.decode import decode_image
from rc2l_bench.deployment.photo_files import read_photo
from rc2l_bench.errors import BenchError, UsageError, one_line
from rc2l_bench.methods.contract import Method, build, check_config
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet
from rc2l_bench.readers import DamagedFileError, reading
from rc2l_bench.run.cell import versions
from rc2l_bench.run.evaluate import predict_logits
from rc2l_bench.schema import check
from rc2l_bench.seals import RECORD, read_listed, read_record
from rc2l_bench.sources import digest_sources, module_file
from rc2l_bench.variants import base_of

WEIGHTS = "model.safetensors"
MOST_WEIGHTS = 8 << 30
"""Largest file of weights that is read, bytes."""
NETWORKS = {"PixelNet": PixelNet, "RegionNet": RegionNet}
"""Networks that need no code of a method, by what run.json calls them."""

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]


class Agreement(NamedTuple):
    """How a loaded network compares with what the run itself has drawn.

    Attributes:
        same: share of the pixels of a validation image that get the same class.
        changed: what is not as it was when the run was trained, in words; empty if all is.
    """

    same: float
    changed: str


class MethodNetwork(nn.Module):
    """A method as a network: `predict` is its forward pass."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> class logits (B, K, H, W)."""
        out: Tensor = self.method.predict(image)
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedRun:
    """A finished run with its network, ready to predict.

    Attributes:
        folder: of the result.
        record: run.json: cell, fingerprint, protocol, versions.
        protocol: what it was trained and scored with.
        classes: K names; the index is the class.
        palette: K colours, 0..255.
        network: images (B, 3, H, W) float in [0, 1] -> class logits (B, K, H, W), in eval mode.
        device: where it lies.
    """

    folder: Path
    record: dict[str, Any]
    protocol: Protocol
    classes: list[str]
    palette: list[Colour]
    network: nn.Module
    device: torch.device

    @property
    def name(self) -> str:
        """Data set, split, method and seed in one word that is fit for a file."""
        cell = self.record["cell"]
        method = cell["method"].rpartition("/")[2].replace("@", "+")
        # Somebody else may have written them: no separators, so that no file lands in another folder.
        return re.sub(r"[^\w.+-]", "_", f"{cell['dataset']}-{cell['split']}-{method}-seed{cell['seed']}")

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width that every image of the data set fits into."""
        height, width = self.record["dataset"]["canvas"]
        return height, width

    @property
    def usual(self) -> tuple[int, int]:
        """Height and width of a large image, see `Dataset.usual`."""
        name = self.record["dataset"]["name"]
        return load_dataset(name).usual if name in BUILT_IN else self.canvas

    def predict(self, image: Pixels | Path | str) -> Pixels:
        """Find the class of every pixel of an image, as in the evaluation of the run.

        Args:
            image: (H, W, 3) uint8, red green blue; or a file.

        Returns:
            (H, W) uint8, 0..K-1. Of a file with an Exif orientation: as viewers show it.

        Raises:
            BenchError: the file is no picture that can be read.
        """
        found: Pixels = self.logits(self._pixels(image)[None]).max(1).indices[0].to(torch.uint8).cpu().numpy()
        return found

    def probabilities(self, image: Pixels | Path | str) -> NDArray[np.float32]:
        """Find the probability of every class at every pixel; see `predict`.

        Returns:
            (K, H, W) float32, [0, 1], summing to 1 over K.
        """
        found: NDArray[np.float32] = self.logits(self._pixels(image)[None]).softmax(1)[0].cpu().numpy()
        return found

    def logits(self, images: Pixels, evaluation: EvalConfig | None = None) -> Tensor:
        """Compute class logits of images of one size.

        Args:
            images: (B, H, W, 3) uint8.
            evaluation: another protocol than that of the run.

        Returns:
            (B, K, H, W) float32 on the device.
        """
        # A copy where the array cannot be written to, for instance because it is memory of a file.
        pixels = torch.from_numpy(images if images.flags.writeable else images.copy()).permute(0, 3, 1, 2)
        spec = evaluation or self.protocol.eval
        return predict_logits(self.network, pixels, spec, self.protocol.image_scale, self.device)

    @staticmethod
    def _pixels(image: Pixels | Path | str) -> Pixels:
        if isinstance(image, Path | str):
            return read_photo(Path(image)).pixels
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UsageError(f"an image is an array (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
        return image

    def paint(self, classes: Pixels) -> Pixels:
        """Colour classes (H, W) with the palette: (H, W, 3) uint8."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.palette)] = self.palette
        return table[classes]

    def compare(self) -> Agreement:
        """Predict the first panel of the run again, where code or packages are others than in its training."""
        changed = self._changes()
        panels = sorted((self.folder / "panels").glob("0-*.image.png"))
        if not changed or not panels:
            return Agreement(1.0, "")
        stem = panels[0].name.removesuffix(".image.png")
        image = decode_image(panels[0].read_bytes(), str(panels[0]))
        with reading(panels[0]):
            from PIL import Image

            with Image.open(panels[0].with_name(f"{stem}.prediction.png")) as stored:
                before = np.array(stored)
        return Agreement(float((self.predict(image) == before).mean()), " and ".join(changed))

    def _changes(self) -> list[str]:
        method = base_of(self.record["cell"]["method"])
        known = module_file(method.replace("/", ".")) is not None
        changes = ["the code"] if not known or digest_sources(method) != self.record["source"] else []
        return [*changes, *(["versions of packages"] if versions() != self.record["versions"] else [])]


def load_run(folder: Path | str, device: str = "auto") -> LoadedRun:
    """Load the network of a finished run.

    Args:
        folder: of a result, `runs/<dataset>/<split>/<method>/seed<k>`, with its weights.
        device: `auto` (a GPU where there is one), or what torch calls it: `cpu`, `cuda:1`.

    Returns:
        The run; its network is on the device.

    Raises:
        UsageError: there is no run, it has no weights, the device is not there, or the method's code is needed and is
            not in sight.
        BenchError: a file is damaged, or the code has changed so that the weights do not fit.
    """
    path = Path(folder)
    record, files = _read(path)
    with reading(path / RECORD, "of another version?"):
        classes, palette = list(record["dataset"]["classes"]), [(r, g, b) for r, g, b in record["dataset"]["palette"]]
        # Without pretrained weights: the run's own replace them, and they need not be here any more.
        described = record["protocol"] | {"net": record["protocol"]["net"] | {"weights": "none"}}
    protocol = check(Protocol, described, path / RECORD)
    network = _build(record, protocol, path)
    _fill(network, path, files)
    where = _device(device)
    whole = MethodNetwork(network) if isinstance(network, Method) else network
    return LoadedRun(
        folder=path, record=record, protocol=protocol, classes=classes, palette=palette, device=where,
        # The layout in which it was trained and scored, and the faster one.
        network=whole.to(memory_format=torch.channels_last).to(where).eval(),
    )  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """run.json and the list of files, after it is known that this is a run with weights."""
    if not (path / RECORD).is_file():
        hint = "give the folder of a result, runs/<dataset>/<split>/<method>/seed<k>"
        raise UsageError(f"{path}: no finished run: there is no {RECORD}: {hint}")
    record, files = read_record(path, "run the cell again")
    if not (path / WEIGHTS).is_file():
        raise UsageError(
            f"{path}: has no weights ({WEIGHTS}): a folder of evidence, perhaps; run the cell again to have them"
        )
    missing = {"cell", "dataset", "protocol", "method_config", "fingerprint", "source", "versions"} - record.keys()
    if missing:
        raise DamagedFileError(f"{path / RECORD}: has no {', '.join(sorted(missing))}: of another version?")
    return record, files


def _build(record: dict[str, Any], protocol: Protocol, path: Path) -> nn.Module:
    """The network with fresh weights; the whole method where its own code makes the prediction."""
    count, method = len(record["dataset"]["classes"]), record["cell"]["method"]
    # Initial weights are replaced at once, and drawing them must not move the caller's generator.
    with torch.random.fork_rng(devices=[]):
        if known := NETWORKS.get(record.get("network") or ""):
            return known(protocol.net, count)
        _find_code(method, path)
        return build(method, check_config(method, record["method_config"]), protocol, count)


def _find_code(method: str, path: Path) -> None:
    """Make the module of a method importable, from the checkout or study that the run lies in.

    Raises:
        UsageError: it is nowhere.
    """
    module = base_of(method).replace("/", ".")
    if module_file(module) is not None:
        return
    file = Path(*module.split(".")).with_suffix(".py")
    root = next((folder for folder in path.resolve().parents if (folder / file).is_file()), None)
    if root is None:
        raise UsageError(
            f"{path}: needs the code of {base_of(method)}, and there is no {file} here or above the run: "
            "call this in the checkout or study that trained it"
        )
    sys.path.insert(0, str(root))


def _fill(network: nn.Module, path: Path, files: dict[str, str]) -> None:
    inner = network.deployed() if isinstance(network, Method) else network
    data = read_listed(path, WEIGHTS, files, MOST_WEIGHTS)
    try:
        inner.load_state_dict(load(data))
    except (SafetensorError, RuntimeError) as error:
        reason = one_line(error)[:200]
        raise BenchError(
            f"{path / WEIGHTS}: does not fit the code that is installed, which has changed since: {reason}"
        ) from None


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError):
        raise UsageError(
            f"device '{name}': not on this machine: expected auto, cpu, or where there is a GPU cuda or cuda:1"
        ) from None
    return device
