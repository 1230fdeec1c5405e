"""The stages of dvc.yaml, carried out for one cell, whether or not the cell is in the grid of params.yaml."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rc2l_bench.errors import PreemptedError
from rc2l_bench.files import require_checkout, say, write_atomically
from rc2l_bench.readers import reading
from rc2l_bench.run.process_pool import run_modules
from rc2l_bench.run.signals import GO_ON, held_back, prepare_child, relaying
from rc2l_bench.variants import file_name_of

if TYPE_CHECKING:
    from rc2l_bench.run.cell import RunInputs

CELL_STAGES = ("scan", "fetch", "catalog", "split", "pool", "label", "audit", "protocol", "train")
FILES = (Path("dvc.yaml"), Path("pipelines/dvc.yaml"))
"""Where DVC finds the stages."""
STAMPS = Path(".rc2l/stages")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage for one cell.

    Attributes:
        name: as in dvc.yaml.
        command: program and arguments.
        deps: files and folders it reads.
        params: `key` of params.yaml or `file:`.
        outs: files and folders it writes.
        always: whether it runs whenever it is looked at, because DVC cannot know what it reads.
    """

    name: str
    command: list[str]
    deps: list[Path]
    params: list[str]
    outs: list[Path]
    always: bool = False

    def inputs(self) -> str:
        """Digest the command, the dependencies (by size and time) and the parameters."""
        state = {
            "command": self.command[1:],
            "files": {str(path): _state(path) for path in self.deps},
            "params": {entry: _section(entry) for entry in self.params},
        }
        return _digest(state)

    def signature(self, inputs: str) -> str:
        """Digest the inputs and the outs."""
        return _digest({"inputs": inputs, "outs": {str(path): _state(path) for path in self.outs}})

    @property
    def module(self) -> list[str]:
        """Name of the module that the command runs, and its arguments."""
        return self.command[2:]

    @property
    def stamp(self) -> Path:
        """Where the signature of the last success is kept."""
        return STAMPS / self.name / hashlib.sha256(shlex.join(self.command[1:]).encode()).hexdigest()[:16]

    def fresh(self) -> bool:
        """Tell whether nothing has changed since the stage last succeeded."""
        return (
            not self.always
            and self.stamp.is_file()
            and self.stamp.read_bytes() == self.signature(self.inputs()).encode()
        )

    def record(self, inputs: str) -> None:
        """Note that the stage has succeeded with the inputs that it had when it began; they may be others by now."""
        write_atomically(self.stamp, self.signature(inputs).encode())

    def carry_out(self) -> int:
        """Run the stage unless it is fresh; return its exit code."""
        if self.fresh():
            return 0
        if self.outs and not self.always:
            say(f"{self.name}: {', '.join(map(str, self.outs))} …")
        inputs = self.inputs()
        code = run_program(self.command)
        if code == 0:
            self.record(inputs)
        return code


def carry_out_cells(items: list[dict[str, str]], jobs: int) -> list[int]:
    """Bring cells up to date: the stages of the data one after the other, then several trainings at a time.

    Args:
        items: the cells.
        jobs: trainings at a time.

    Returns:
        The exit code of every training; that of a stage of the data alone, where one fails.
    """
    chains = [cell_stages(item) for item in items]
    if code := carry_out_data(chains):
        return [code]
    stale = [(chain[-1], chain[-1].inputs()) for chain in chains if not chain[-1].fresh()]
    codes = [0] * len(stale)
    for index, codes[index] in run_modules([training.module for training, _ in stale], jobs):
        if codes[index] == 0:
            training, inputs = stale[index]
            training.record(inputs)
    return codes


def carry_out_data(chains: Sequence[Sequence[Stage]]) -> int:
    """Bring the stages of the data up to date, one after the other.

    Args:
        chains: the stages of every cell, the training at the end.

    Returns:
        The exit code of the first stage that fails; 0 if all went well.
    """
    done: set[Path] = set()
    for stage in (stage for chain in chains for stage in chain[:-1]):
        # Cells share stages; one that always runs must run once, not once for every cell.
        if stage.stamp not in done and (code := stage.carry_out()):
            return code
        done.add(stage.stamp)
    return 0


def run_program(command: Sequence[str]) -> int:
    """Runs a program that gets the signals of this process and does not outlive it.

    Returns:
        Its exit code; a negative one is the signal that killed it.

    Raises:
        PreemptedError: this process was asked to stop, and the program did not finish.
    """
    with relaying() as relay:
        with held_back():
            process = subprocess.Popen(command, preexec_fn=prepare_child(os.getpid()))
            relay.add(process.pid)
        code = process.wait()
    if code and relay.asked:
        raise PreemptedError(f"stopped; {GO_ON}")
    return code


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()


def _state(path: Path) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a file, or of all files of a folder; None when it is missing."""
    if not path.exists():
        return None
    files = (
        sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts) if path.is_dir() else [path]
    )
    return [(str(file.relative_to(path)), (s := file.stat()).st_size, s.st_mtime_ns) for file in files]


def _section(entry: str) -> Any:  # noqa: ANN401 - YAML holds anything
    """What an entry of `params:` stands for; for `a.b` the whole of `a`, because a part of it may be missing."""
    from rc2l_bench.schema import read_yaml

    if entry.endswith(":"):
        return read_yaml(Path(entry[:-1]))
    return read_yaml(Path("params.yaml")).get(entry.split(".")[0])


def _fill(text: str, item: Mapping[str, str]) -> str:
    return re.sub(r"\$\{item\.(\w+)\}", lambda match: item[match[1]], text)


def _names(entries: list[Any] | None, item: Mapping[str, str]) -> Iterator[str]:
    """Filled-in entries of a list whose items are names or `name: options`."""
    for entry in entries or []:
        name, options = next(iter(entry.items())) if isinstance(entry, dict) else (entry, "")
        # A params entry `file.yaml:` is a key without a value.
        yield _fill(name, item) + (":" if options is None else "")


def cell_stages(item: Mapping[str, str], root: Path = Path()) -> list[Stage]:
    """The stages of a cell, in the order in which they have to run.

    Args:
        item: `dataset`, `split`, `method`, `seed`: what DVC's matrix would put in.
        root: of the checkout.

    Raises:
        UsageError: this is not the root of a checkout.
    """
    from rc2l_bench.schema import read_yaml

    require_checkout(root)
    specs = [(root / file, read_yaml(root / file)) for file in FILES]
    with reading(" and ".join(str(file) for file, _ in specs), "restore them with git"):
        stages = {name: stage for _, spec in specs for name, stage in spec["stages"].items()}
        return [_stage(name, stages[name], item) for name in CELL_STAGES]


def open_present_cell(item: Mapping[str, str]) -> RunInputs:
    """Open a cell as it would be trained now, with what its stages have left.

    Args:
        item: see `cell_stages`.

    Raises:
        UsageError: a configuration is wrong.
        BenchError: the stages of the data have to run again.
    """
    from rc2l_bench.run.cell import open_cell  # typed forms, which take long to import

    shards, plan = map(Path, cell_stages(item)[-1].command[7:9])
    return open_cell(item["dataset"], item["split"], item["method"], int(item["seed"]), shards, plan)


def _stage(name: str, spec: Mapping[str, Any], item: Mapping[str, str]) -> Stage:
    item = {**item, "method": file_name_of(item["method"])}
    # Filled in after the template has been taken apart: a value is one word, whatever is in it.
    command = [_fill(word, item) for word in shlex.split(spec["cmd"])]
    return Stage(
        name=name,
        command=[sys.executable, *command[1:]],
        deps=[Path(path) for path in _names(spec.get("deps"), item)],
        params=list(_names(spec.get("params"), item)),
        outs=[Path(path) for path in _names(spec.get("outs"), item)],
        always=spec.get("always_changed", False),
    )
