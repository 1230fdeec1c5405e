"""IoU by class of the groups of a section."""

from __future__ import annotations

import math

import numpy as np

from rc2l_bench.metrics import Floats
from rc2l_bench.report.comparison import Key, Section


def class_table(section: Section) -> dict[Key, Floats]:
    """Average the IoU of every class over seeds, for every group with a result.

    Returns:
        By group, (K,) in [0, 1]; nan where no seed has the class.
    """
    table = {}
    for key, group in section.groups.items():
        rows = [[run.iou().get(name, math.nan) for name in section.classes] for run in group.runs]
        if rows and section.classes:
            values = np.array(rows)
            # By hand, because `nanmean` warns about a class that no seed has.
            known = np.isfinite(values)
            total = np.where(known, values, 0).sum(0)
            table[key] = np.divide(total, known.sum(0), out=np.full(total.shape, np.nan), where=known.any(0))
    return table
