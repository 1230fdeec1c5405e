"""Which runs may stand in one column: same protocol, same data, same split, same method configuration."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from rc2l_bench.config import Params, stated
from rc2l_bench.errors import UsageError
from rc2l_bench.report.results import FinishedRun, Json, Remark

_SHOWN = 4


def screen(runs: Sequence[FinishedRun], params: Params) -> tuple[list[FinishedRun], list[Remark]]:
    """Keep the runs that are comparable with their neighbours and set the others aside.

    The measure of a dataset is the protocol of params.yaml; if no run was made with it, the commonest among the runs.
    Everything else (classes, validation images, split id, method configuration) is measured by the commonest value.

    Returns:
        The comparable runs, and one remark for every other, which says what differs.
    """
    remarks: list[Remark] = []
    kept = _set_aside(runs, lambda r: r.cell.dataset, _protocol, remarks, lambda d: declared_protocol(params, d))
    kept = _set_aside(kept, lambda r: r.cell.dataset, _images, remarks)
    kept = _set_aside(kept, lambda r: (r.cell.dataset, r.cell.split), _draws, remarks)
    kept = _set_aside(kept, _same_labels, _split, remarks)
    kept = _set_aside(kept, lambda r: (r.cell.dataset, r.cell.method), _method, remarks)
    return kept, remarks + _outdated(kept, params) + _streamed(kept)


def _streamed(runs: Sequence[FinishedRun]) -> list[Remark]:
    """Say which runs nobody can replay, because nobody knows the order of their images."""
    pools = ((run, run.record.get("pool", {})) for run in runs)
    return [
        Remark(str(run.cell), f"not replayable: its unlabelled images were streamed from {', '.join(pool['stream'])}")
        for run, pool in pools
        if pool.get("stream")
    ]


def declared_protocol(params: Params, dataset: str) -> Json | None:
    """The protocol that params.yaml gives a dataset, as run.json holds it; None if it gives none."""
    try:
        protocol: Json = stated(params.protocol_of(dataset))
    except UsageError:
        return None
    return protocol


def _protocol(run: FinishedRun) -> Json:
    return {"protocol": run.record["protocol"]}


def _images(run: FinishedRun) -> Json:
    record = run.record
    return {
        "classes": record["dataset"]["classes"],
        "validation shards": record["shards"].get("val"),
        "pretrained weights": record.get("weights"),
    }


def _draws(run: FinishedRun) -> Json:
    return {"draws of the labels": run.draws}


def _same_labels(run: FinishedRun) -> Hashable:
    """The runs that have to be trained on the same labels as this one."""
    return run.cell.dataset, run.cell.split, run.cell.seed if run.draws == "by_seed" else None


def _split(run: FinishedRun) -> Json:
    split, shards = run.record["split"], run.record["shards"]
    return {
        "split id": split["id"],
        "id of the unlabelled side": split["unlabelled_id"],
        "labelled shards": shards.get("labelled"),
        "shards of all training images": shards.get("pool"),
        "images added to them": run.record.get("pool", {}).get("sets", []),
    }


def _method(run: FinishedRun) -> Json:
    return {"method": run.record["method_config"], "tuning": run.record.get("tuning")}


def _set_aside(
    runs: Sequence[FinishedRun],
    group: Callable[[FinishedRun], Hashable],
    facts: Callable[[FinishedRun], Json],
    remarks: list[Remark],
    declared: Callable[[str], Json | None] = lambda _: None,
) -> list[FinishedRun]:
    """Splits off the runs whose facts differ from those of their group."""
    groups: dict[Hashable, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        groups[group(run)].append(run)
    kept = []
    for members in groups.values():
        measure = _measure([facts(run) for run in members], declared(members[0].cell.dataset))
        for run in members:
            if facts(run) == measure:
                kept.append(run)
            else:
                remarks.append(Remark(str(run.cell), f"set aside, not comparable: {differences(facts(run), measure)}"))
    return kept


def _measure(facts: list[Json], declared: Json | None) -> Json:
    """The declared facts if any run has them, else the commonest; the first in sorted order among equals."""
    wanted = {"protocol": declared}
    if declared is not None and wanted in facts:
        return wanted
    counts = Counter(json.dumps(fact, sort_keys=True) for fact in facts)
    best = min(counts, key=lambda text: (-counts[text], text))
    return next(fact for fact in facts if json.dumps(fact, sort_keys=True) == best)


def _outdated(runs: Sequence[FinishedRun], params: Params) -> list[Remark]:
    """Says where params.yaml has moved on since the runs were made."""
    remarks = []
    for dataset in sorted({run.cell.dataset for run in runs}):
        declared = declared_protocol(params, dataset)
        used = next(run for run in runs if run.cell.dataset == dataset).record["protocol"]
        if declared is not None and used != declared:
            text = f"these runs were not made with the protocol of params.yaml: {differences(used, declared)}"
            remarks.append(Remark(dataset, text))
    return remarks


def differences(found: Any, expected: Any) -> str:  # noqa: ANN401 - JSON
    """What differs between two JSON values, as a short text: `steps is 500 instead of 1000`."""
    lines = list(_walk(found, expected, ""))
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _walk(found: Any, expected: Any, path: str) -> list[str]:  # noqa: ANN401
    if isinstance(found, dict) and isinstance(expected, dict):
        lines = []
        for key in dict.fromkeys([*expected, *found]):
            lines += _walk(found.get(key), expected.get(key), f"{path}.{key}" if path else str(key))
        return lines
    if found == expected:
        return []
    return [f"{path or 'it'} is {_short(found)} instead of {_short(expected)}"]


def _short(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return "absent"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
