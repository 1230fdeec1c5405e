"""How the report writes names, numbers and findings. Plain text: escaping is the templates' business."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rc2l_bench.config import Draws
from rc2l_bench.report.comparison import Column, Key, Section, SeedGroup
from rc2l_bench.report.results import tuning_by_method
from rc2l_bench.report.stats import MOST_SEEDS, Difference, Estimate, HalfWidths
from rc2l_bench.variants import UNTUNED, variant_of

NOTHING = ""
_COVERAGE: Mapping[Draws, str] = {
    "by_seed": "the choice of labels, initialisation and images: seed k trains on the k-th draw of the labels, the "
    "same for every method.",
    "fixed": "initialisation and images, not the choice of labels: all seeds train on the same draw.",
    "list": "initialisation and images, not the choice of labels: all seeds train on the same list.",
    "all": "initialisation and images; every image is labelled, so there is no choice of labels.",
}


def short_names(methods: Sequence[str]) -> dict[str, str]:
    """The shortest tail of every method id that no other method shares: `baselines/cps` becomes `cps`."""
    return {method: next((t for t in _tails(method) if _owners(t, methods) == {method}), method) for method in methods}


def _tails(method: str) -> Iterable[str]:
    parts = method.split("/")
    return ("/".join(parts[i:]) for i in range(len(parts) - 1, -1, -1))


def _owners(tail: str, methods: Iterable[str]) -> set[str]:
    return {m for m in methods if f"/{m}".endswith(f"/{tail}")}


def percent(value: float, digits: int = 1) -> str:
    """A share as per cent, without the sign: 0.4131 becomes 41.3."""
    return f"{100 * value:.{digits}f}" if math.isfinite(value) else NOTHING


def signed(value: float, digits: int = 1) -> str:
    """Write a difference of shares in points, with a real minus: −1.2."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def gap_interval(gap: Difference) -> str:
    """Write the interval of a difference in points; with as many digits as show that it excludes 0, if it does."""
    digits = next((d for d in range(1, 6) if gap.low * gap.high <= 0 or _nonzero(gap, d)), 6)
    return f"{signed(gap.low, digits)} to {signed(gap.high, digits)}"


def _nonzero(gap: Difference, digits: int) -> bool:
    """Whether both ends of an interval still differ from 0 after rounding."""
    return all(float(f"{100 * end:.{digits}f}") != 0 for end in (gap.low, gap.high))


def p_value(value: float) -> str:
    """A p-value to three digits."""
    if not math.isfinite(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def amount(value: float, digits: int = 0) -> str:
    """A number in groups of three, set apart by narrow blanks that do not break."""
    return f"{value:,.{digits}f}".replace(",", "\u202f") if math.isfinite(value) else NOTHING


def duration(seconds: float) -> str:
    """Seconds as the two largest units: 1 h 05 min, 3 min 20 s, 12 s."""
    if not math.isfinite(seconds):
        return NOTHING
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def ratio(value: float) -> str:
    """A multiple: ×1.84."""
    return f"×{value:.2f}" if math.isfinite(value) else NOTHING


def score(value: Estimate | None) -> str:
    """Mean ± standard deviation in per cent; the mean alone for one seed, nothing without a result."""
    if value is None:
        return NOTHING
    return f"{percent(value.mean)} ± {percent(value.sd)}" if value.n > 1 else percent(value.mean)


def measured(value: tuple[float, float, int] | None, share: bool) -> str:
    """The same for mean, deviation and number of seeds of a share, with one digit more, or of another number."""
    if value is None:
        return NOTHING
    parts = value[: min(2, value[2])]
    return " ± ".join(percent(part, 2) if share else amount(part, 3) for part in parts)


def tex_score(value: Estimate) -> str:
    """The same for a siunitx column: 41.3(4) is 41.3 ± 0.4."""
    return f"{percent(value.mean)}({round(1000 * value.sd)})" if value.n > 1 else percent(value.mean)


def tex_format(section: Section, split: str) -> str:
    """The shape of a siunitx column: digits before and after the point, digits of the deviation if there is one."""
    found = [final.sd for m in section.methods if (final := section.groups[Key(m, split)].final) and final.n > 1]
    return f"2.1({len(str(round(1000 * max(found))))})" if found else "2.1"


def code(text: str) -> str:
    """The first 12 characters of a hash."""
    return text[:12]


def weights_note(section: Section, method: str) -> str:
    """Say what a reader must know of a row: teacher scored; and, where rows differ in it, how it was tuned."""
    scored, tuning = section.scored(method), tuning_by_method(section.runs)
    notes = [f"{scored} scored"] if scored not in ("", "student") else []
    notes += [tuning[method]] if len(set(tuning.values())) > 1 and method in tuning else []
    return ", ".join(notes) or NOTHING


def measured_on(section: Section) -> str:
    """Say in one sentence on what memory and time were measured; nothing without runs."""
    names, machines = short_names(section.methods), section.machines
    if not machines:
        return NOTHING
    if len(machines) == 1:
        return f"Memory and time were measured on {next(iter(machines))}."
    parts = [f"{machine} ({', '.join(names[m] for m in methods)})" for machine, methods in machines.items()]
    return f"Memory and time were measured on {_listed(parts)}; multiples are of the same hardware only."


def machine_note(section: Section, method: str) -> str:
    """Name the hardware of a row, where rows of a section differ in it."""
    return section.costs[method].machine if len(section.machines) > 1 else NOTHING


def tuning_finding(section: Section) -> str:
    """Say in one sentence how the rows of a section were tuned."""
    found = tuning_by_method(section.runs)
    kinds = sorted(set(found.values()))
    if len(kinds) > 1:
        names = short_names(section.methods)
        parts = [f"{kind}: {', '.join(names[m] for m in found if found[m] == kind)}" for kind in kinds]
        return f"Rows differ in how they were tuned ({'; '.join(parts)}): their differences are not the methods' alone."
    if kinds == [UNTUNED]:
        return "Not tuned: every row has the protocol's learning rate and its method's own numbers."
    if not kinds:
        return NOTHING
    variants = any(variant_of(method) for method in found)
    more = " A variant was not tuned for itself: it has what was chosen for its method, but for what it changes."
    return f"Tuned alike, {kinds[0]} for every method on images that no number here has seen.{more if variants else ''}"


def seeds_needed(group: SeedGroup) -> str:
    """How many seeds would show a gap as large as the one that was found."""
    if group.gap is None or not math.isfinite(group.gap.sd):
        return "unknown"
    needed = group.gap.seeds_needed
    return f"{needed}" if needed else f"> {MOST_SEEDS}"


def title(section: Section) -> str:
    """The heading of a section."""
    if section.family:
        name = short_names([section.family])[section.family]
        return f"{section.dataset}, " + (
            f"study of {name}: {section.study}" if section.study else f"variants of {name}"
        )
    return section.dataset if section.declared else f"{section.dataset}, outside the declared grid"


def heading(column: Column) -> str:
    """The second line of a column's head: 62 labels, 6.2 %."""
    if column.labelled is None:
        return NOTHING
    return f"{column.labelled:,} labels".replace(",", "\u202f") + (
        f", {100 * column.share:.3g} %" if math.isfinite(column.share) else ""
    )


def seeds_of(group: SeedGroup) -> str:
    """How many seeds a group has: n = 2 of 3."""
    n, declared = len(group.runs), len(group.runs) + len(group.missing)
    return f"n = {n}" if n == declared else f"n = {n} of {declared}"


def averaged(section: Section) -> str:
    """Say over which classes the mIoU of a section is the mean; nothing without runs."""
    if not section.runs:
        return NOTHING
    every, rule = len(section.classes), section.runs[0].absent
    inside = {name for run in section.runs for name in run.averaged_classes}
    outside = [name for name in section.classes if name not in inside]
    text = f"mIoU is the mean over {f'{every - len(outside)} of' if outside else 'all'} {every} classes"
    if rule != "skip":
        whose = " for the runs that predict it" if rule == "predicted" else ""
        return f"{text}; one without a pixel in val counts as 0{whose}, as in the published protocol."
    if not outside:
        return f"{text}."
    have = "has no pixel" if len(outside) == 1 else "have no pixel"
    return (
        f"{text}, the same for every run: {_listed(outside)} {have} in val. "
        "What is predicted so counts as an error of the class that it hides."
    )


def findings(section: Section) -> list[str]:
    """What the tables say, in sentences."""
    names = short_names(list(dict.fromkeys([*section.methods, section.reference])))
    lines = [line for column in section.columns if (line := _column(section, column, names))]
    lines += coverage(section)
    missing = sum(len(group.missing) for group in section.groups.values())
    if missing:
        lines.append(
            f"{missing} of {missing + len(section.runs)} declared runs have no result; their groups are empty."
        )
    return lines


def _column(section: Section, column: Column, names: dict[str, str]) -> str:
    """Who is best at a split, against whom, and what cannot be told; empty if there is nothing to compare."""
    groups = {m: group for m in section.methods if (group := section.groups[Key(m, column.split)]).final}
    if len(groups) < 2:
        return NOTHING
    best = max(groups, key=lambda m: groups[m].final.mean)  # type: ignore[union-attr]
    tied = [names[m] for m, group in groups.items() if m != best and group.tied]
    text = f"{column.split}: {names[best]} scores highest, {score(groups[best].final)} mIoU"
    if not groups[best].tied:
        text += "; no verdict, because it has one seed, or nothing to be paired with."
    elif tied:
        text += f"; {_listed(tied)} cannot be told from it among all pairs."
    else:
        text += ", and can be told from all others among all pairs."
    return text + _against(groups[best], groups.get(section.reference), names[section.reference]) + _half_widths(column)


def _against(group: SeedGroup, other: SeedGroup | None, reference: str) -> str:
    if group.gap is None:
        return NOTHING
    over = " over images alone" if group.gap.over == "images" else ""
    # Without counts and with one seed there is a difference, but nothing is known of how sure it is.
    interval = NOTHING if group.gap.over == "nothing" else f" ({gap_interval(group.gap)}{over})"
    # Both may hold: a difference that is sure by itself may be one that a table of many methods has by chance.
    alone = ", by itself more than chance" if group.gap.differs and other and other.tied else NOTHING
    return f" Against {reference}: {signed(group.gap.mean)} points{interval}{alone}."


def _half_widths(column: Column) -> str:
    if column.half_widths is None:
        return NOTHING
    return f" The interval of a difference of two methods is {half_widths(column.half_widths)}."


def half_widths(widths: HalfWidths) -> str:
    """How wide intervals of differences are, in points."""
    typical, least, most = (f"±{percent(width)}" for width in widths)
    if least == most:
        return f"{typical} points"
    return f"{typical} points (root mean square over all pairs; from {least} to {most})"


def coverage(section: Section) -> list[str]:
    """Say what the intervals of a section cover, and what they do not."""
    if section.one_seed:
        return [
            "Every group has one seed: intervals cover the images only, and there is no verdict, because another seed "
            "may well turn the order round."
        ]
    splits: dict[Draws, list[str]] = {}
    for column in section.columns:
        if column.draws:
            splits.setdefault(column.draws, []).append(column.split)
    lines = [f"{', '.join(names)}: intervals cover {_COVERAGE[draws]}" for draws, names in splits.items()]
    single = any(len(group.runs) == 1 for group in section.groups.values())
    return [*lines, "Where a group has one seed, its intervals cover the images only."] if single else lines


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
