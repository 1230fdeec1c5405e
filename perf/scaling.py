"""`make scaling`: contrastive terms alone against the number of pixels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import typer
from torch import Tensor

from baselines.u2pl import U2PL, ContrastConfig, View
from rc2l_bench.console import console, guarded
from rc2l_bench.cost.scaling import (
    CLASSES,
    DIM,
    IMAGES,
    Term,
    Work,
    dense_contrast,
    factor,
    fits,
    make_features,
    make_labels,
    measure,
    region_contrast,
    side_of,
)
from rc2l_bench.files import replace_folder
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.memory_bank import MemoryBank
from rc2l_bench.report.scaling_figure import draw_scaling


def sampled_contrast(config: ContrastConfig) -> Term:
    """U2PL's contrastive loss; the first image is labelled, the others are not."""

    def make(crop: int) -> Work:
        bank = MemoryBank([config.bank[0]] + [config.bank[1]] * (CLASSES - 1), config.dim)
        student = SimpleNamespace(net=SimpleNamespace(lattice=Lattice(4.0)))
        parts = {"student": student, "config": SimpleNamespace(contrast=config), "bank": bank, "published": False}
        method = cast("U2PL", SimpleNamespace(**parts))
        view = View(
            logits=torch.randn(IMAGES, CLASSES, crop, crop),
            features=make_features(side_of(crop), False),
            label=make_labels(crop),
            entropy=torch.rand(IMAGES - 1, crop, crop),
        )
        features = make_features(side_of(crop), True)
        known: list[Tensor] = [view.logits, view.features, view.label, view.entropy, features, *bank.buffers()]
        return Work(lambda: U2PL.contrastive(method, features, view, 0.1), known)

    return make


PAPER: Any = ContrastConfig.model_validate(
    {
        "weight": {"described": 0.1, "as_published": 1.0}, "dim": DIM, "share": 0.2, "probability": 0.0,
        "ranks": (3, 20), "anchors": 256, "negatives": 50, "bank": (50000, 30000), "temperature": 0.5,
    }
)  # fmt: skip
"""As published, but that any pixel may be an anchor."""


@guarded
def main(out: Path) -> None:
    """Measures the terms and writes scaling.csv, exponents.csv and the figure into a folder."""
    torch.set_num_threads(1)
    terms = {"RC²L": region_contrast, "U²PL": sampled_contrast(PAPER), "dense": dense_contrast}
    table = measure(terms)
    exponents = fits(table)

    def write(folder: Path) -> None:
        table.to_csv(folder / "scaling.csv", index=False, lineterminator="\n")
        exponents.to_csv(folder / "exponents.csv", index=False, lineterminator="\n")
        draw_scaling(table, exponents, folder)

    replace_folder(out, write)
    console.print(exponents.round(2).to_string(index=False))
    console.print(f"memory at crop 513: dense / RC²L {factor(table, 513, 'dense', 'RC²L'):.1f}")


if __name__ == "__main__":
    typer.run(main)
