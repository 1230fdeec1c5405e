"""Export the network of a run: the file, a JSON and a model card beside it; all three are there, or none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rc2l_bench.deployment.exported_network import (
    OPENERS,
    SUFFIXES,
    WRITERS,
    ExportedNetwork,
    Format,
    compare,
    least_size,
    trace,
)
from rc2l_bench.deployment.loading import LoadedRun
from rc2l_bench.deployment.model_card import write_card
from rc2l_bench.deployment.model_facts import collect_facts
from rc2l_bench.errors import UsageError
from rc2l_bench.files import write_atomically


def name_target(name: str, kind: Format, out: Path | None) -> Path:
    """Choose where the file goes.

    Args:
        name: of the run.
        kind: format.
        out: what the user asked for.

    Raises:
        UsageError: the name has another suffix than files of the format.
    """
    suffix = SUFFIXES[kind]
    if out is not None and out.suffix != suffix:
        raise UsageError(f"--out {out}: a file of format {kind} ends in {suffix}")
    return out or Path(f"{name}{suffix}")


def export_run(run: LoadedRun, kind: Format, out: Path) -> list[Path]:
    """Write the network of a run as one file, and its JSON and its model card beside it.

    Args:
        run: on the CPU.
        kind: format.
        out: the file.

    Returns:
        The files that were written.

    Raises:
        UsageError: it does not fit the format.
        BenchError: it cannot be exported, or the file gives other numbers than the network.
    """
    network, least = ExportedNetwork(run.network, run.protocol), least_size(run.protocol)
    height, width = run.protocol.crop
    sizes = [(least, least + 9), (max(least, height), max(least, width))]
    data = WRITERS[kind](trace(network, least))
    difference = compare(network, OPENERS[kind](data), sizes)
    facts = {"file": out.name, "sha256": hashlib.sha256(data).hexdigest()}
    facts |= collect_facts(run, kind, sizes, difference)
    described = (json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    # All of them are made before the first is written.
    files = {
        out: data,
        out.with_name(f"{out.name}.json"): described,
        out.with_name(f"{out.name}.md"): write_card(run, facts, out.name).encode(),
    }
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)
