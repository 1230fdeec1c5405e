"""One tracker in a process of its own: `python -m rc2l_bench.run.tracker_process NAME`, lines of JSON on stdin.

The first line is a `Head`; then come `{"row": {"step": …, "loss": …}}` and, when the training is over,
`{"result": {"miou": …}}`. The end of stdin ends it, also when the training was killed. Needs no torch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from rc2l_bench.errors import one_line
from rc2l_bench.files import exclusive, say

FOLDER = Path(".rc2l/trackers")
"""Where trackers keep their files, unless their own settings say otherwise."""
PROJECT = "rc2l-bench"

Values = Mapping[str, float]


class Head(TypedDict):
    """What a tracker is told of a run.

    Attributes:
        title: data set, split, method, seed.
        cell: the same by name.
        fingerprint: of the run.
        settings: numbers and words by dotted name: protocol, method, runtime.
        begin: step at which this session begins; what was shown beyond it is trained again.
    """

    title: str
    cell: dict[str, Any]
    fingerprint: str
    settings: dict[str, Any]
    begin: int


class Listener(ABC):
    """A tracker's own client."""

    @abstractmethod
    def __init__(self, head: Head) -> None:
        """Open what is written to."""

    @abstractmethod
    def write(self, values: Values, step: int) -> None:
        """Write numbers by name, after a step."""

    @abstractmethod
    def close(self, result: Values) -> None:
        """Write the final scores and finish; they are empty where the training was cut off."""


def folder_of(name: str, head: Head) -> Path:
    """Give the folder of a run: one per cell and fingerprint, so that a changed run starts a curve of its own."""
    cell = head["cell"]
    parts = (cell["dataset"], cell["split"], cell["method"].replace("@", "+"), f"seed{cell['seed']}")
    return FOLDER.joinpath(name, *parts, head["fingerprint"][:12])


class TensorBoard(Listener):
    """`tensorboard --logdir .rc2l/trackers/tensorboard`. Written with TensorBoard's own writer, without torch."""

    def __init__(self, head: Head) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.writer = EventFileWriter(str(folder_of("tensorboard", head)))
        if head["begin"]:
            # TensorBoard then drops what an interrupted session has shown beyond its last checkpoint.
            start = SessionLog(status=SessionLog.START)
            self.writer.add_event(Event(wall_time=time.time(), step=head["begin"] + 1, session_log=start))

    def write(self, values: Values, step: int) -> None:
        """See `Listener`."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self.writer.flush()

    def close(self, result: Values) -> None:  # noqa: ARG002 - the last evaluation is a point of the curve
        """See `Listener`."""
        self.writer.close()


class DVCLive(Listener):
    """A folder of DVCLive per run; experiments of DVC are left to `dvc exp run`."""

    def __init__(self, head: Head) -> None:
        from dvclive import Live

        logging.getLogger("dvclive").setLevel(logging.ERROR)
        # Without dvc.yaml and experiments: several trainings at a time would write over one another's.
        self.live = Live(
            str(folder_of("dvclive", head)), resume=head["begin"] > 0, save_dvc_exp=False, dvcyaml=None, report=None
        )
        self.live.log_params(head["settings"])

    def write(self, values: Values, step: int) -> None:
        """See `Listener`."""
        self.live.step = step
        for name, value in values.items():
            self.live.log_metric(name, value)
        self.live.make_summary()

    def close(self, result: Values) -> None:
        """See `Listener`."""
        self.live.summary.update(result)
        self.live.make_summary()
        self.live.end()


class MLflow(Listener):
    """Runs in the store that MLFLOW_TRACKING_URI names, else in `.rc2l/trackers/mlflow.db`."""

    def __init__(self, head: Head) -> None:
        import mlflow
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        FOLDER.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(FOLDER / 'mlflow.db').resolve()}"
        # One after the other: the first one makes the tables.
        with exclusive(FOLDER / "mlflow"):
            mlflow.set_tracking_uri(address)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = mlflow.set_experiment(name).experiment_id
            self.client = MlflowClient()
            self.run = self._open(head, experiment)

    def _open(self, head: Head, experiment: str) -> str:
        """Continue the run of an interrupted session, or start one."""
        mine = f"tags.fingerprint = '{head['fingerprint']}'"
        found = self.client.search_runs([experiment], mine) if head["begin"] else []
        if found:
            return str(found[0].info.run_id)
        tags = {"fingerprint": head["fingerprint"], **{name: str(value) for name, value in head["cell"].items()}}
        run = self.client.create_run(experiment, tags=tags, run_name=head["title"]).info.run_id
        for name, value in head["settings"].items():
            self.client.log_param(run, name, value)
        return str(run)

    def write(self, values: Values, step: int) -> None:
        """See `Listener`."""
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def close(self, result: Values) -> None:
        """See `Listener`."""
        for name, value in result.items():
            self.client.log_metric(self.run, f"final.{name}", value)
        self.client.set_terminated(self.run, "FINISHED" if result else "KILLED")


class WandB(Listener):
    """Weights & Biases: offline under `.rc2l/trackers/wandb` unless one is logged in or WANDB_MODE says otherwise."""

    def __init__(self, head: Head) -> None:
        import wandb

        # Never a question on a terminal that nobody looks at: without a key there is nobody to send it to.
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
        folder = FOLDER / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=head["title"], id=head["fingerprint"][:16],
            resume="allow", mode=mode, dir=str(folder), config=dict(head["settings"]),
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )  # fmt: skip

    def write(self, values: Values, step: int) -> None:
        """See `Listener`."""
        self.run.log(dict(values), step=step)

    def close(self, result: Values) -> None:
        """See `Listener`."""
        self.run.summary.update(dict(result))
        self.run.finish(exit_code=0 if result else 1)


LISTENERS: dict[str, type[Listener]] = {
    "dvclive": DVCLive, "tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB,
}  # fmt: skip


def listen(name: str) -> None:
    """Carry out what the lines on stdin say."""
    lines = map(json.loads, sys.stdin)
    listener = LISTENERS[name](next(lines))
    result: Values = {}
    for line in lines:
        if "row" in line:
            step = line["row"].pop("step")
            listener.write(line["row"], step)
        result = line.get("result", result)
    listener.close(result)


def main(name: str) -> int:
    """Listen until stdin ends; whatever goes wrong is one line."""
    try:
        listen(name)
    except ModuleNotFoundError as error:
        say(f"tracker {name}: {error.name} is not installed: pip install 'rc2l-bench[{name}]'; the training goes on")
        return 1
    except Exception as error:
        reason = one_line(error)[:200]
        say(f"tracker {name}: {reason}; the training goes on without it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
