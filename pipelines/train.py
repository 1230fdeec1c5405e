"""Stage `train`: train and evaluate one cell, unless its run is in the store already."""

from __future__ import annotations

from pathlib import Path

import typer

from rc2l_bench.console import guarded, is_first_process
from rc2l_bench.run.cell import open_cell
from rc2l_bench.run.far_runs import sharing
from rc2l_bench.run.signals import end_with_parent, listening
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.variants import method_of


@guarded
def main(dataset: str, split: str, method: str, seed: int, shards: Path, plan: Path, out: Path) -> None:
    """Train one cell into a folder; continue it where it was cut off, copy it where it is finished.

    Args:
        dataset: name.
        split: name.
        method: id as it is spelled in paths, for instance `baselines/cps` or `baselines/cps+plain`.
        seed: of initialisation, order and augmentation; the stage `split` has used it for the labels.
        shards: folder with `pool`, `val`, `test`, and `<split>/seed<k>` in `labelled` and in `audit`.
        plan: what the stage `split` wrote.
        out: where the result is wanted.
    """
    if not is_first_process():
        end_with_parent()
    with listening(is_first_process()) as preemption:
        cell = open_cell(dataset, split, method_of(method), seed, shards, plan)
        # Once, before anything is trained: sources that are edited meanwhile must not name the run.
        provenance = cell.provenance()
        run = Run(STORE, provenance["fingerprint"])
        minutes, first = cell.params.runtime.share_minutes, is_first_process()
        with run.lock(owner=first), sharing(run, minutes, owner=first) as put:
            # Asked under the lock, because another process may have finished the run while this one started. The runner
            # is imported when it is needed: torch takes seconds, and a finished run is handed out without it.
            if not run.complete:
                from rc2l_bench.run.runner import carry_out

                carry_out(cell, run, provenance, preemption)
            # The others of a training hold no lock, and would replace one folder at the same time.
            if first:
                put()
                run.materialise(out)


if __name__ == "__main__":
    typer.run(main)
