"""What trainings take: the table of `rc2l-bench run --dry-run`, and the order in which they begin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from rc2l_bench.console import console

if TYPE_CHECKING:
    from rc2l_bench.config import Params


def order_cells(items: list[dict[str, str]], params: Params, jobs: int) -> list[dict[str, str]]:
    """Put the longest trainings first where some wait for others that run side by side; else keep the order given.

    Args:
        items: the cells.
        params: of the checkout.
        jobs: trainings at a time.
    """
    if not 1 < jobs < len(items):
        return items
    from rc2l_bench.run.forecast import longest_first

    return longest_first(items, params)


def show_forecasts(items: Sequence[dict[str, str]], params: Params, jobs: int) -> None:
    """Print what would become of cells; nothing is trained or written.

    Args:
        items: the cells.
        params: of the checkout.
        jobs: trainings at a time.
    """
    from rc2l_bench.report.formatting import amount, duration
    from rc2l_bench.run.forecast import forecast_cells

    found = forecast_cells(items, params)
    table = Table(box=None, pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    for column in ("time", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        item = one.item
        cell = f"{item['dataset']} {item['split']} {item['method'].split('/')[-1]} seed {item['seed']}"
        time, memory = (duration(one.seconds), amount(one.memory_mb)) if one.trains else ("", "")
        table.add_row(escape(cell), one.state, escape("; ".join(one.reasons)), time, memory)
    console.print(table)
    waiting = [one for one in found if one.trains]
    together = min(jobs, len(waiting)) or 1
    known = [one.seconds for one in waiting if math.isfinite(one.seconds)]
    unknown = len(waiting) - len(known)
    parts = [f"{len(waiting)} of {len(found)} cells would be trained"]
    if known:
        which = f" for {len(known)} of them" if unknown else ""
        parts.append(f"about {duration(sum(known) / together)}{which}, {together} at a time")
    if unknown:
        parts.append(f"the time of {unknown} of them is not known (rc2l-bench cost measures it)")
    console.print("; ".join(parts), markup=False, soft_wrap=True)
