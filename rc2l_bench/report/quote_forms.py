"""The forms in which documents quote evidence: tables, findings, single figures, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from rc2l_bench.errors import UsageError, suggest
from rc2l_bench.report.class_table import class_table
from rc2l_bench.report.comparison import Column, Key, Section, SeedGroup
from rc2l_bench.report.curves import join_curves
from rc2l_bench.report.formatting import (
    amount,
    duration,
    findings,
    gap_interval,
    half_widths,
    heading,
    machine_note,
    measured,
    measured_on,
    percent,
    ratio,
    score,
    seeds_of,
    short_names,
    signed,
    tuning_finding,
    weights_note,
)
from rc2l_bench.report.reliability import compare_reliability
from rc2l_bench.report.rendering import escape_markdown
from rc2l_bench.report.scores_on_test import compare_on_test
from rc2l_bench.report.stats import Difference

Form = Callable[..., str]


def table(section: Section, split: str = "") -> str:
    """One split: mIoU with its interval, the difference to the reference, memory, time."""
    column = _column(section, split)
    reference = escape_markdown(short_names([*section.methods, section.reference])[section.reference])
    heads = ["method", "mIoU", f"against {reference}", f"memory, MiB ({section.memory_kind})", "step, ms", "training"]
    rows = [[_name(section, m), *_numbers(section, m, column.split)] for m in section.methods]
    return _lines(heads, rows)


def scores(section: Section) -> str:
    """All splits: mIoU with its interval."""
    heads = ["method", *(f"{c.split}, {heading(c)}" for c in section.columns)]
    rows = [
        [_name(section, m), *(_miou(section.groups[Key(m, c.split)]) for c in section.columns)] for m in section.methods
    ]
    return _lines(heads, rows)


def learning(section: Section, split: str = "", score: str = "miou") -> str:
    """One split: a score of the history at every step at which it was taken, mean over seeds."""
    split = _column(section, split).split
    # No remarks: evidence is checked, byte by byte, before it is quoted.
    joined = {m: join_curves(section.groups[Key(m, split)].runs, score, []) for m in section.methods}
    curves = {m: curve["mean"] for m, curve in joined.items() if curve is not None}
    if not curves:
        raise UsageError(f"score={score}: no run has it in history.csv")
    steps = sorted({step for curve in curves.values() for step in curve.index})
    rows = [[_name(section, m), *(percent(curve.get(step, math.nan)) for step in steps)] for m, curve in curves.items()]
    return _lines(["method", *(f"step {amount(step)}" for step in steps)], rows)


def classes(section: Section, split: str = "") -> str:
    """One split: IoU of every class on val, mean over seeds."""
    split = _column(section, split).split
    found = class_table(section)
    rows = [[_name(section, m), *map(percent, found[Key(m, split)])] for m in section.methods if Key(m, split) in found]
    return _lines(["method", *map(escape_markdown, section.classes)], rows)


def reliability(section: Section, split: str = "") -> str:
    """One split: mIoU on test, calibration, and mIoU on spoilt images."""
    split = _column(section, split).split
    found = compare_reliability(section)
    main = [(i, measure) for i, measure in enumerate(found.measures) if measure.main]
    heads = ["method", "mIoU on test", *(f"{measure.title}, {measure.part}" for _, measure in main)]
    rows = [
        [
            _name(section, m), score(section.groups[Key(m, split)].test),
            *(measured(found.rows[Key(m, split)][i], measure.share) for i, measure in main),
        ]
        for m in section.methods if Key(m, split) in found.rows
    ]  # fmt: skip
    return _lines(heads, rows)


def said(section: Section) -> str:
    """What the tables say, and on what they were measured, as a list."""
    lines = [*findings(section), tuning_finding(section), measured_on(section)]
    return "\n".join(f"- {escape_markdown(line)}" for line in lines if line)


def miou(section: Section, method: str, split: str = "") -> str:
    """Mean and standard deviation of a method."""
    return score(_group(section, method, split).final)


def seeds(section: Section, method: str, split: str = "", part: str = "val") -> str:
    """The final mIoU of a method by seed, on val or test."""
    _check_part(part)
    runs = _group(section, method, split).runs
    return ", ".join(percent(run.miou if part == "val" else run.miou_test) for run in runs)


def iou(section: Section, method: str, names: str, split: str = "") -> str:
    """The mean IoU of a method over some classes on val, each the mean over seeds."""
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in section.classes]:
        raise UsageError(f"names={names}: {suggest(unknown[0], section.classes)}")
    by_class = class_table(section)[_key(section, method, split)]
    return percent(float(np.mean([by_class[section.classes.index(name)] for name in chosen])))


def gap(section: Section, method: str, split: str = "", part: str = "val") -> str:
    """The difference of a method to the reference, with its interval, on val or test."""
    _check_part(part)
    key = _key(section, method, split)
    group = section.groups[key]
    if part == "val":
        return _gap(group.gap)
    other = section.groups.get(Key(section.reference, key.split))
    try:
        return _gap(compare_on_test(group.runs, other.runs if other else ()))
    except ValueError as error:
        raise UsageError(f"part=test: {error}") from None


def width(section: Section, split: str = "") -> str:
    """How wide the intervals of differences are, to either side."""
    widths = _column(section, split).half_widths
    if widths is None:
        raise UsageError("width: no two methods with two seeds in common")
    return half_widths(widths)


def runs(section: Section) -> str:
    """How many runs there are."""
    return str(len(section.runs))


def hardware(section: Section) -> str:
    """On what memory and time were measured."""
    return escape_markdown(measured_on(section))


INLINE: Mapping[str, Form] = {
    "miou": miou, "seeds": seeds, "iou": iou, "gap": gap, "width": width, "runs": runs, "hardware": hardware,
}  # fmt: skip
"""Forms that stand in a sentence."""
FORMS: Mapping[str, Form] = {
    "table": table, "scores": scores, "learning": learning, "classes": classes, "reliability": reliability,
    "findings": said, **INLINE,
}  # fmt: skip


def _lines(heads: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def _name(section: Section, method: str) -> str:
    note = weights_note(section, method)
    return escape_markdown(short_names(section.methods)[method] + (f" ({note})" if note else ""))


def _numbers(section: Section, method: str, split: str) -> list[str]:
    group, cost = section.groups[Key(method, split)], section.costs.get(method)
    if cost is None:
        return [_miou(group), _gap(group.gap), "", "", ""]
    note = machine_note(section, method)
    return [
        _miou(group), _gap(group.gap), _of(amount(cost.memory_mb), cost.memory_ratio),
        _of(amount(cost.step_ms, 1), cost.time_ratio),
        duration(cost.seconds) + (f" ({escape_markdown(note)})" if note else ""),
    ]  # fmt: skip


def _of(text: str, multiple: float) -> str:
    return f"{text} {ratio(multiple)}".strip()


def _miou(group: SeedGroup) -> str:
    final = group.final
    if final is None:
        return ""
    mean = f"**{percent(final.mean)}**" if group.tied else percent(final.mean)
    spread = f" ± {percent(final.sd)}" if final.n > 1 else ""
    interval = f" [{percent(final.low)}, {percent(final.high)}]" if math.isfinite(final.low) else ""
    return f"{mean}{spread}{interval}" + (f", {seeds_of(group)}" if group.missing else "")


def _gap(found: Difference | None) -> str:
    if found is None:
        return ""
    interval = "" if found.over == "nothing" else f" [{gap_interval(found).replace(' to ', ', ')}]"
    return f"{signed(found.mean)}{interval}"


def _check_part(part: str) -> None:
    if part not in ("val", "test"):
        raise UsageError(f"part={part}: {suggest(part, ('val', 'test'))}")


def _column(section: Section, split: str) -> Column:
    found = {column.split: column for column in section.columns}
    if not split and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise UsageError(f"split={split}: {suggest(split, found)}")
    return found[split]


def _key(section: Section, method: str, split: str) -> Key:
    names = {name: method_id for method_id, name in short_names(section.methods).items()}
    if method not in names:
        raise UsageError(f"method={method}: {suggest(method, names)}")
    key = Key(names[method], _column(section, split).split)
    if not section.groups[key].final:
        raise UsageError(f"method={method}: has no result there")
    return key


def _group(section: Section, method: str, split: str) -> SeedGroup:
    return section.groups[_key(section, method, split)]
