"""Where pretrained weights lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from safetensors import SafetensorError, safe_open

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_VARIABLE = "RC2L_BENCH_WEIGHTS"
MIRROR_VARIABLE = "RC2L_BENCH_MIRROR"
REACH_SECONDS = 5
"""Until a hub that does not answer is taken to be out of reach."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names under which timm keeps weights on the hub."""
MASKFORMER = "maskformer:"
"""What stands before the file of a MaskFormer checkpoint in `net.weights`."""


def maskformer_file(net: NetConfig) -> str:
    """Give the file of the MaskFormer checkpoint that a network starts from; empty if it does not."""
    return net.weights.removeprefix(MASKFORMER) if net.weights.startswith(MASKFORMER) else ""


def weight_folders() -> list[Path]:
    """List the folders that are searched for weights, in this order, each once.

    RC2L_BENCH_WEIGHTS, data/weights, the mirror where it is a folder, and the folder `weights` beside the mirror.
    """
    folders = [Path(os.environ[WEIGHTS_VARIABLE])] if os.environ.get(WEIGHTS_VARIABLE) else []
    folders.append(Path("data/weights"))
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror and "://" not in mirror:
        folders += [Path(mirror), Path(mirror).parent / "weights"]
    return list(dict.fromkeys(folders))


def find_weights(net: NetConfig) -> Path | None:
    """Find the local file of the pretrained weights.

    Returns:
        A file in timm's layout, or a MaskFormer checkpoint where `net.weights` names one; None for `none`, and for
        `imagenet` when timm has to download them itself.

    Raises:
        UsageError: a file is given and it is neither there nor, by that name, in one of the folders.
    """
    if net.weights == "none":
        return None
    given = maskformer_file(net) or (f"{net.backbone}.safetensors" if net.weights == "imagenet" else net.weights)
    # What is downloaded where it is missing is looked for in the folders alone, so that a file of that name in the
    # current directory is not taken by chance.
    places = [] if net.weights == "imagenet" else [Path(given)]
    found = next((file for file in [*places, *(folder / given for folder in weight_folders())] if file.is_file()), None)
    if found is None and net.weights != "imagenet":
        folders = ", ".join(str(folder) for folder in weight_folders())
        raise UsageError(
            f"net.weights: there is no file {given}, nor is it in one of {folders}: "
            f"give 'none', 'imagenet', a safetensors file of the backbone, or '{MASKFORMER}' and one of MaskFormer"
        )
    return found


def require_reach(backbone: str, repository: str | None) -> None:
    """Ask once whether weights can be downloaded; without a network timm tries for most of a minute before it says so.

    Args:
        backbone: timm's name.
        repository: of its weights on the hub; None = they come from elsewhere.

    Raises:
        UsageError: they are neither kept by an earlier download nor can the hub be reached; names the file that helps.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if repository and any(isinstance(try_to_load_from_cache(repository, name), str) for name in _HUB_FILES):
        return
    try:
        if constants.HF_HUB_OFFLINE:
            raise requests.ConnectionError("HF_HUB_OFFLINE is set")
        requests.head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except requests.RequestException:
        raise UsageError(out_of_reach(backbone)) from None


def out_of_reach(backbone: str) -> str:
    """Say which file would help where weights can be had from nowhere."""
    folders = ", ".join(str(folder) for folder in weight_folders())
    return (
        f"net.weights: {backbone}.safetensors is in none of {folders}, and it could not be downloaded: "
        f"put it there, point {WEIGHTS_VARIABLE} to its folder, or set weights to none"
    )


def check_weights(file: Path, wanted: Mapping[str, Tensor], backbone: str) -> None:
    """Make sure that a file has a value for all that a backbone holds; timm passes over what is not there.

    Args:
        file: safetensors.
        wanted: what the backbone holds, see `features.timm_name`.
        backbone: for messages.

    Raises:
        UsageError: it is damaged, or of another network.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            # Feature extractors write some dots of timm's own names as underscores.
            shapes = {name.replace(".", "_"): stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UsageError(f"net.weights: {file}: not a whole safetensors file ({error})") from None
    for name, value in wanted.items():
        if value.is_floating_point() and shapes.get(name.replace(".", "_")) != list(value.shape):
            raise UsageError(
                f"net.weights: {file}: no '{name}' of {list(value.shape)}: these are not the weights of {backbone}"
            )
