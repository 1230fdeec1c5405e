"""On what a run is carried out: a part of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rc2l_bench.bounds import Processes, Steps, different
from rc2l_bench.schema import Model

TrackerName = Literal["dvclive", "tensorboard", "mlflow", "wandb"]

QUIET = {"workers", "cache_mb", "checkpoint_every", "checkpoint_minutes", "share_minutes", "trackers"}
"""Settings of `Runtime` that change no number."""

MOST_WORKERS = 64
"""Loader processes that may be asked for."""


def _counted(value: object) -> object:
    """Refuse what is no number of processes, in one message for both kinds of values."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_WORKERS):
        return value
    raise ValueError(f"expected a whole number from 0 to {MOST_WORKERS}, or auto, got {value!r:.80}")


Workers = Annotated[int | Literal["auto"], BeforeValidator(_counted)]


class Levers(Model):
    """Trade time for memory, or a wait at the start for time; docs/COST.md has what each costs and gains."""

    compile: bool
    """torch.compile of the parts of all networks, for training alone."""
    accumulate: Annotated[int, Field(ge=1, le=1024)]
    """Parts that a batch is learnt from in, before one step of the optimiser; batch norm sees one of them at a time."""
    checkpoint_activations: bool
    """Stages of the backbone are computed again in the backward pass instead of being kept."""


NO_LEVERS = Levers(compile=False, accumulate=1, checkpoint_activations=False)
"""All of them off."""


class Runtime(Model):
    """On what a run is carried out.

    What `QUIET` names changes no number and takes no part in the fingerprint.
    """

    device: Literal["auto", "cpu", "cuda"]
    devices: Processes
    """Processes; batches are the same for any number."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: Processes
    """Threads of torch on the CPU: sums in another order give other bits."""
    deterministic: bool
    """On CUDA, deterministic kernels only (slower)."""
    workers: Workers
    """Loader processes; 0 loads in the training process, `auto` takes the cores that the training leaves."""
    cache_mb: Annotated[int, Field(ge=0, le=1 << 20)]
    """Decoded images kept in memory per loader process, MiB."""
    checkpoint_every: Steps
    """Steps between checkpoints."""
    checkpoint_minutes: Annotated[float, Field(ge=0, le=10_000)]
    """Minutes after which a checkpoint is written in any case; 0 = by steps alone."""
    share_minutes: Annotated[float, Field(ge=0, le=10_000)]
    """Minutes between checkpoints that are put into the store of `RC2L_BENCH_STORE`, too; 0 = none is."""
    log_every: Steps
    """Steps that one row of history.csv averages over."""
    trackers: Annotated[list[TrackerName], AfterValidator(different)]
    """Who else hears of every row of history.csv; each is an extra of the package, docs/USING.md."""
    levers: Levers

    def identity(self) -> dict[str, Any]:
        """Give what takes part in the fingerprint: what may change a number; of the levers those that are on."""
        off, levers = NO_LEVERS.model_dump(), self.levers.model_dump()
        on = {name: value for name, value in levers.items() if value != off[name]}
        return self.model_dump(mode="json", exclude=QUIET | {"levers"}) | ({"levers": on} if on else {})
