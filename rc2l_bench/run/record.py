"""What is known of a run so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

PARTS = ("data", "augment", "forward", "backward", "optimise")

Row = dict[str, float | int | None]


@dataclass
class Record:
    """What is known of a run so far; part of every checkpoint.

    Attributes:
        step: steps that are done.
        history: rows of history.csv.
        evaluations: (step, mIoU) of every evaluation.
        step_seconds: seconds of every step.
        part_seconds: seconds by part of a step, summed.
        other_seconds: seconds spent in logging, progress and checkpoints, summed.
        seconds: seconds of the whole training, evaluations and interrupted sessions included.
        sums: sums of the losses since the last row.
        looked: steps after which what was due (evaluation, a row of the history) is done, too.
    """

    step: int = 0
    history: list[Row] = field(default_factory=list)
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    part_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    other_seconds: float = 0.0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)
    looked: int = 0
