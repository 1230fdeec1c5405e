"""One trial of `rc2l-bench tune`, in a process of its own: an ordinary run with numbers that a sampler chose.

`python -m rc2l_bench.run.trial REQUEST.json`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rc2l_bench.console import guarded, is_first_process
from rc2l_bench.errors import BusyError, DivergedError
from rc2l_bench.files import write_atomically
from rc2l_bench.readers import read_json
from rc2l_bench.run.cell import RunInputs
from rc2l_bench.run.far_runs import sharing
from rc2l_bench.run.signals import Preemption, end_with_parent, listening
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.trial_request import has_diverged, open_trial
from rc2l_bench.tuning import BUSY


@guarded
def main(request: Path) -> None:
    """Carry out a trial, or look it up in the store, and write what came of it.

    Args:
        request: JSON with `dataset`, `split`, `method`, `seed`, `shards`, `plan`, `numbers`, and `answer`, the file to
            write: `miou` (0 for a trial that diverged), `diverged`, `seconds`, `fingerprint`. There is none, and the
            exit code is `BUSY`, where another process carries out the same trial.
    """
    asked = read_json(request)
    if not is_first_process():
        end_with_parent()
    with listening(is_first_process()) as preemption:
        try:
            _answer(asked, preemption)
        except BusyError:
            sys.exit(BUSY)


def _answer(asked: dict[str, Any], preemption: Preemption) -> None:
    cell = open_trial(asked)
    provenance = cell.provenance()
    run = Run(STORE, provenance["fingerprint"])
    minutes, first = cell.params.runtime.share_minutes, is_first_process()
    with run.lock(owner=first), sharing(run, minutes, owner=first) as put:
        if has_diverged(Path(asked["answer"]), run.name):
            return
        answer = {"fingerprint": run.name, **_carry_out(cell, run, provenance, preemption)}
        if first:
            if not answer["diverged"]:
                put()
                answer |= _read(run)  # `put` may have taken over the result of another machine
            write_atomically(Path(asked["answer"]), json.dumps(answer, indent=1).encode())


def _read(run: Run) -> dict[str, Any]:
    run.verify()
    metrics, cost = (read_json(run.result / f"{name}.json") for name in ("metrics", "cost"))
    return {"miou": metrics["miou"], "diverged": False, "seconds": cost["seconds"]}


def _carry_out(cell: RunInputs, run: Run, provenance: dict[str, Any], preemption: Preemption) -> dict[str, Any]:
    if not run.complete:
        from rc2l_bench.run.runner import carry_out

        try:
            carry_out(cell, run, provenance, preemption)
        except DivergedError as error:
            # A trial that diverges has used its share of the budget: it counts, as the worst there is.
            return {"miou": 0.0, "diverged": True, "seconds": error.seconds}
    return _read(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
