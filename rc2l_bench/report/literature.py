"""Published figures beside our own: only where everything that the table of figures says of a protocol is the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from rc2l_bench.config import EvalConfig, NetConfig, Protocol, Sliding
from rc2l_bench.errors import UsageError
from rc2l_bench.readers import parse_rows, read_text
from rc2l_bench.report.comparison import Column, Key, Section, SeedGroup

FILE = "published.csv"
_BACKBONES = {
    **dict.fromkeys(("resnet50", "resnet50c", "resnet50s"), "ResNet-50"),
    **dict.fromkeys(("resnet101", "resnet101c", "resnet101s"), "ResNet-101"),
    **dict.fromkeys(("vit_small_patch14_dinov2", "vit_small_patch14_dinov2.lvd142m"), "DINOv2-S"),
    **dict.fromkeys(("vit_base_patch14_dinov2", "vit_base_patch14_dinov2.lvd142m"), "DINOv2-B"),
}
"""timm's names, with and without the deep stem: publications say ResNet-101 for all of them."""
_CLASSIC = ("92", "183", "366", "732", "1464")
_FAMILIES = ("cps", "u2pl", "unimatch")
STATED = "stated"
KNOWN = (STATED, "derived")


class Figure(NamedTuple):
    """One row of the table of figures; empty = its source does not say, which matches nothing."""

    method: str
    backbone: str
    dataset: str
    split_family: str
    labels: str
    crop: str
    output_stride: str
    evaluation: str
    pretraining: str
    """The images that the initial weights have seen: imagenet, coco, dinov2, clip."""
    miou: str
    """In per cent, with the digits of the source."""
    known: str
    """`stated` by the source, or `derived` from a gain that it states and the figure that the gain is over."""
    source: str

    @property
    def protocol(self) -> tuple[str, ...]:
        """What must be the same: all columns between the method and the number."""
        return tuple(self[1:9])

    @property
    def origin(self) -> str:
        """How the figure came here, in the words of a table."""
        return "not run here" if self.known == STATED else f"not run here, {self.known}"


class Comparison(NamedTuple):
    """One split of a section, with published figures in the file's order.

    Attributes:
        split: name.
        protocol: of the runs here, in the words of the table of figures.
        ours: the methods that were run here.
        figures: of the same protocol.
        apart: of the same protocol but for the weights that training starts from, which makes them another thing.
    """

    split: str
    protocol: tuple[str, ...]
    ours: tuple[tuple[str, SeedGroup], ...]
    figures: tuple[Figure, ...]
    apart: tuple[Figure, ...]


def read_figures(path: Path) -> tuple[Figure, ...]:
    """Read the table of figures; none if there is no such file.

    Raises:
        UsageError: a row has other columns than a `Figure`, no source, an mIoU that is no number of per cent, or does
            not say how it is known.
    """
    if not path.is_file():
        return ()
    head, *rows = parse_rows(read_text(path), path) or [[]]
    if tuple(head) != Figure._fields:
        raise UsageError(f"{path}: line 1: expected the columns {','.join(Figure._fields)}")
    return tuple(_figure(path, line, row) for line, row in enumerate(rows, start=2))


def _figure(path: Path, line: int, row: Sequence[str]) -> Figure:
    if len(row) != len(Figure._fields):
        raise UsageError(f"{path}: line {line}: {len(row)} columns, expected {len(Figure._fields)}")
    figure = Figure(*row)
    if not figure.source or not re.fullmatch(r"[0-9]{1,2}(\.[0-9]+)?", figure.miou) or figure.known not in KNOWN:
        raise UsageError(
            f"{path}: line {line}: expected an mIoU in per cent, how it is known ({' or '.join(KNOWN)}) and its "
            f"source, got {','.join(row[9:])}"
        )
    return figure


def match(section: Section, figures: Sequence[Figure]) -> tuple[Comparison, ...]:
    """Find the splits of a section that have results here and published figures of the same protocol."""
    found = []
    for column in section.columns:
        ours = tuple((m, group) for m in section.methods if (group := section.groups[Key(m, column.split)]).final)
        wanted = _protocol(section.dataset, column, ours[0][1].runs[0].record["protocol"]) if ours else None
        if wanted is None:
            continue
        alike = [figure for figure in figures if figure.protocol[:-1] == wanted[:-1]]
        same = tuple(figure for figure in alike if figure.pretraining == wanted[-1])
        apart = tuple(figure for figure in alike if figure.pretraining not in ("", wanted[-1]))
        if same or apart:
            found.append(Comparison(column.split, wanted, ours, same, apart))
    return tuple(found)


def _protocol(dataset: str, column: Column, stored: object) -> tuple[str, ...] | None:
    """Say a run's protocol in the words of the table of figures; None if it has no words for it."""
    try:
        protocol = Protocol.model_validate_json(json.dumps(stored))
    except ValidationError:
        return None
    net, (height, width) = protocol.net, protocol.crop
    family, evaluation = _family(dataset, column.split), _evaluation(protocol.eval, protocol.crop)
    backbone, seen = _BACKBONES.get(net.backbone), pretraining(net.weights, net.backbone)
    if not (family and evaluation and backbone and seen) or protocol.image_scale != 1 or height != width:
        return None
    return backbone, dataset, family, str(column.labelled), str(height), stride_of(net), evaluation, seen


def stride_of(net: NetConfig) -> str:
    """Give the output stride of a network in pixels; of a plain transformer the side of its patches."""
    patch = re.search(r"_patch(\d+)_", net.backbone)
    return patch[1] if patch else str(net.output_stride)


def pretraining(weights: str, backbone: str = "") -> str:
    """Name the images that the weights of a network have seen: imagenet, coco, dinov2; empty for none or if not told.

    Args:
        weights: `net.weights` of a protocol. The name of a file tells, for instance `maskformer_resnet101_coco`;
            `imagenet` are timm's own weights, which of DINOv2 have seen other images.
        backbone: `net.backbone` of the protocol.
    """
    name = Path(backbone if weights == "imagenet" and "dinov2" in backbone else weights).name.lower()
    return next((images for images in ("coco", "dinov2", "imagenet") if images in name), "")


def _family(dataset: str, split: str) -> str | None:
    if dataset == "voc" and split in _CLASSIC:
        return "classic"
    family, _, share = split.partition("_")
    return family if share and family in _FAMILIES else None


def _evaluation(config: EvalConfig, crop: tuple[int, int]) -> str | None:
    """Single scale without flip, over whole images or windows of the size of a crop."""
    if config.flip or config.scales != [1.0] or config.protocol.mode == "center_crop":
        return None
    if isinstance(config.protocol, Sliding) and config.protocol.window != crop:
        return None
    return config.protocol.mode
