"""`rc2l-bench tune`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rc2l_bench.cli.jobs import Engine, On, find_cluster, joined, show_sent
from rc2l_bench.console import console, guarded
from rc2l_bench.errors import UsageError

if TYPE_CHECKING:
    from rc2l_bench.cluster import ClusterConfig
    from rc2l_bench.config import Params
    from rc2l_bench.run.tuning import MethodStudy, RunModules
    from rc2l_bench.tuning import TuningConfig

Dataset = Annotated[str, typer.Option(help="Data set whose numbers are tuned.")]
Methods = Annotated[list[str], typer.Option("--method", help="Method; repeatable. Left out: those of the grids.")]
Jobs = Annotated[int, typer.Option(min=0, help="Trainings at a time; 0 = as many as there are cores for.")]


@guarded
def tune(
    dataset: Dataset = "shapes",
    method: Methods = [],  # noqa: B006
    jobs: Jobs = 1,
    on: On = Engine.local,
) -> None:
    """Give every method the same trials on images that no reported number sees, and keep the best numbers of each."""
    from rc2l_bench.config import Params, load
    from rc2l_bench.files import exclusive
    from rc2l_bench.run.tuning import WORK, carry_out_trials, open_studies, prepare_data
    from rc2l_bench.tuning import tuned_file, write_tuned

    params = load(Params, Path("params.yaml"))
    methods = _methods(method, params)
    settings = params.tuning_of(dataset)
    cluster = _find_cluster(params, settings) if on is Engine.slurm else None
    with _runner(on, jobs, params) as run:
        prepare_data(dataset, settings.split, methods[0])
        studies = open_studies(dataset, methods, params)
        if cluster and _submit(dataset, studies, cluster):
            return
        lines = TrialLines(studies)
        try:
            failed = list(carry_out_trials(dataset, studies, run, lines.tell))
        except KeyboardInterrupt:  # the trials that were running have said so
            raise typer.Exit(130) from None
    if failed:
        raise typer.Exit(failed[0] if failed[0] > 0 else 128 - failed[0])
    chosen = {study.method: study.choose() for study in studies}
    # Another process may tune other methods of the data set; a lock in `tuned` itself would look like a change to DVC.
    with exclusive(WORK / dataset):
        write_tuned(dataset, settings, chosen, [row for study in studies for row in study.rows()])
    _show(dataset, studies)
    console.print(f"files: {tuned_file(dataset)}", markup=False)


@contextmanager
def _runner(on: Engine, jobs: int, params: Params) -> Iterator[RunModules]:
    """Open what carries out trials that are waited for: this machine, or the nodes of Ray."""
    from rc2l_bench.run.process_pool import count_jobs, run_modules

    if on is Engine.ray:
        with joined(params.runtime) as engine:
            yield engine.run_modules
    else:
        yield partial(run_modules, jobs=count_jobs(jobs, params.runtime.threads))


def _find_cluster(params: Params, settings: TuningConfig) -> ClusterConfig:
    if settings.sampler == "tpe":
        raise UsageError(
            "params.yaml: tuning: tpe draws each trial by the scores of those before: leave out --on slurm"
        )
    return find_cluster(params.runtime)


def _submit(dataset: str, studies: list[MethodStudy], cluster: ClusterConfig) -> bool:
    """Submit the trials that are not finished; tell whether there are any. The others are collected as always."""
    from rc2l_bench.run.array_jobs import submit_trials

    sent = submit_trials(dataset, studies, cluster)
    if sent.tasks or sent.known:
        show_sent(sent, "this command again collects their scores")
    return bool(sent.tasks or sent.known)


def _methods(names: list[str], params: Params) -> list[str]:
    """Ids without variants, each once."""
    from rc2l_bench.variants import base_of, find_methods, resolve_method

    grids = [params.grid, *params.grids.values()]
    wanted = names or [method for grid in grids for method in grid.method]
    return list(dict.fromkeys(base_of(resolve_method(name, find_methods())) for name in wanted))


class TrialLines:
    """A line for every trial that ends: its numbers, its score, the best so far, the time that is left."""

    def __init__(self, studies: list[MethodStudy]) -> None:
        """Look at what is done already.

        Args:
            studies: of all methods.
        """
        self.studies = studies
        self.begin = time.monotonic()
        self.before = self._done()

    def _done(self) -> int:
        return sum(len(study.finished()) for study in self.studies)

    def tell(self, study: MethodStudy, number: int) -> None:
        """Show a trial that has just ended."""
        rows = study.rows()
        row = next(row for row in rows if row.number == number)
        best = max(one.miou for one in rows)
        numbers = "  ".join(f"{name} {value:g}" for name, value in row.numbers.items())
        score = "diverged" if row.diverged else f"mIoU {100 * row.miou:.1f}"
        done, every = self._done(), sum(one.config.trials for one in self.studies)
        left = (time.monotonic() - self.begin) / max(1, done - self.before) * (every - done)
        console.print(
            f"{study.method} trial {number + 1}/{study.config.trials}: {numbers}: {score} (best {100 * best:.1f}); "
            f"{done} of {every} trials, about {left / 60:.0f} min left",
            soft_wrap=True, markup=False,
        )  # fmt: skip


def _show(dataset: str, studies: list[MethodStudy]) -> None:
    from rich.table import Table

    table = Table(title=f"{dataset}: what {studies[0].config.trials} trials chose; mIoU on the tuning images, %")
    for column in ("method", "numbers"):
        table.add_column(column, overflow="fold")
    for column in ("best", "median", "worst", "diverged", "hours"):
        table.add_column(column, justify="right", no_wrap=True)
    for study in studies:
        found, scores = study.choose(), sorted(100 * row.miou for row in study.rows())
        numbers = "  ".join(f"{name} {value:g}" for name, value in found.numbers.items())
        middle = (scores[len(scores) // 2] + scores[(len(scores) - 1) // 2]) / 2
        table.add_row(
            study.method.split("/")[-1], numbers, f"{scores[-1]:.1f}", f"{middle:.1f}", f"{scores[0]:.1f}",
            str(found.diverged), f"{found.seconds / 3600:.2f}",
        )  # fmt: skip
    console.print(table)
