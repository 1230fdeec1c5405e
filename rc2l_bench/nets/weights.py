"""Where the pretrained weights of a backbone lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_VARIABLE = "RC2L_BENCH_WEIGHTS"
MIRROR_VARIABLE = "RC2L_BENCH_MIRROR"


def weight_folders() -> list[Path]:
    """Folders that are searched for ImageNet weights, in this order.

    RC2L_BENCH_WEIGHTS, data/weights, the mirror where it is a folder, and the folder `weights` beside the mirror.
    """
    folders = [Path(os.environ[WEIGHTS_VARIABLE])] if os.environ.get(WEIGHTS_VARIABLE) else []
    folders.append(Path("data/weights"))
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror and "://" not in mirror:
        folders += [Path(mirror), Path(mirror).parent / "weights"]
    return folders


def find_weights(net: NetConfig) -> Path | None:
    """The local file of a backbone's weights.

    Returns:
        A file in timm's layout; None for `none`, and for `imagenet` when timm has to download them itself.

    Raises:
        UsageError: a path is given and there is no such file.
    """
    if net.weights == "none":
        return None
    if net.weights == "imagenet":
        files = (folder / f"{net.backbone}.safetensors" for folder in weight_folders())
        return next((file for file in files if file.is_file()), None)
    if not Path(net.weights).is_file():
        raise UsageError(f"net.weights: there is no file {net.weights}: give 'none', 'imagenet' or a safetensors file")
    return Path(net.weights)


def check_weights(file: Path, features: nn.Module, backbone: str) -> None:
    """Makes sure that a file has a value for all that a backbone holds; timm passes over what is not there.

    Raises:
        UsageError: it is damaged, or of another network.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            # Feature extractors write some dots of timm's own names as underscores.
            shapes = {name.replace(".", "_"): stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(f"net.weights: {file}: not a whole safetensors file ({error})") from None
    for name, value in features.state_dict().items():
        if value.is_floating_point() and shapes.get(name.replace(".", "_")) != list(value.shape):
            raise UsageError(
                f"net.weights: {file}: no '{name}' of {list(value.shape)}: these are not the weights of {backbone}"
            )
