"""What goes with an exported network: classes, colours, how to feed it, what it scored and how sure that is, terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rc2l_bench import __version__
from rc2l_bench.config import Whole
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.deployment.exported_network import INPUT, OUTPUTS, Format, least_size
from rc2l_bench.deployment.loading import LoadedRun
from rc2l_bench.errors import BenchError
from rc2l_bench.report.results import Cell, FinishedRun, read_run
from rc2l_bench.report.run_files import read_areas
from rc2l_bench.report.stats import LEVEL, estimate
from rc2l_bench.report.variance import leave_one_out

Facts = dict[str, Any]

UNKNOWN_TERMS = "not known: the data set says none, or its description is not in sight"


def collect_facts(run: LoadedRun, kind: Format, sizes: Sequence[tuple[int, int]], difference: float) -> Facts:
    """Collect what stands in the JSON beside an exported file.

    Args:
        run: whose network it is.
        kind: format of the file.
        sizes: heights and widths at which the file was compared with the network.
        difference: largest difference of a probability that was found.

    Returns:
        JSON values.
    """
    record = run.record
    return {
        "made_by": f"rc2l-bench {__version__}",
        "format": kind,
        "cell": record["cell"],
        "fingerprint": record["fingerprint"],
        "classes": run.classes,
        "palette": [list(colour) for colour in run.palette],
        "input": _input(run),
        "outputs": _outputs(),
        "evaluation": _evaluation(run),
        "scores": read_scores(run),
        "labels": {name: record["split"].get(name) for name in ("labelled", "unlabelled", "draws", "id")},
        "tuning": record.get("tuning"),
        "licence_of_the_data": terms_of(record["cell"]["dataset"]),
        "versions": record["versions"],
        "compared_with_the_network": {"sizes": [list(size) for size in sizes], "largest_difference": difference},
    }


def _input(run: LoadedRun) -> Facts:
    return {
        "name": INPUT,
        "dtype": "uint8",
        "shape": ["batch", "height", "width", 3],
        "channels": "red, green, blue, 0 to 255, upright, as a picture is read: scaling and normalisation are inside",
        "least_height_and_width": least_size(run.protocol),
        "canvas": list(run.canvas),
    }


def _outputs() -> Facts:
    logits, classes = OUTPUTS
    return {
        logits: {"dtype": "float32", "shape": ["batch", "class", "height", "width"], "softmax": "probabilities"},
        classes: {"dtype": "uint8", "shape": ["batch", "height", "width"], "values": "index into `classes`"},
    }


def _evaluation(run: LoadedRun) -> Facts:
    """How the run was scored, and whether one pass of the file over a picture is the same."""
    return {
        **run.protocol.eval.model_dump(mode="json"),
        "image_scale": run.protocol.image_scale,
        "one_pass_is_as_scored": isinstance(run.protocol.eval.protocol, Whole),
    }


def read_scores(run: LoadedRun) -> Facts:
    """Read what the run scored on `val`, and on `test` where it has labels, each with its interval over images."""
    finished = read_run(Cell(**run.record["cell"]), run.folder, [])
    parts = {"val": finished.miou, "test": finished.miou_test}
    return {part: _score(finished, part, miou) for part, miou in parts.items() if math.isfinite(miou)}


def _score(finished: FinishedRun, part: str, miou: float) -> Facts:
    """The mIoU of a part with its 95 % interval; the network is given, so the interval covers other images alone."""
    try:
        ids, areas = read_areas(finished, part)
        left_out = leave_one_out(areas[None], finished.absent)
    except ValueError:  # no counts per image, or too few images
        return {"miou": miou, "interval": None}
    found = estimate(np.array([miou]), left_out)
    return {
        "miou": miou, "interval": [found.low, found.high], "level": LEVEL, "over": found.over, "images": len(ids),
    }  # fmt: skip


def terms_of(dataset: str) -> str:
    """Give the licence line of a data set."""
    try:
        return load_dataset(dataset).licence or UNKNOWN_TERMS
    except (BenchError, OSError):  # one's own data set, outside of the study that describes it
        return UNKNOWN_TERMS
