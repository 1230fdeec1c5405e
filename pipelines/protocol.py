"""Stage `protocol`: what every training reads of params.yaml, as a file of its own.

Trainings depend on this file and not on params.yaml, because DVC keeps a copy of every parameter for every stage: the
protocols and recipes would be four fifths of its lock file, which it reads twice at every start.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer

from rc2l_bench.config import Params, load
from rc2l_bench.console import guarded
from rc2l_bench.files import write_atomically
from rc2l_bench.schema import read_yaml

SECTIONS = ("protocol", "recipes", "runtime", "eval")


@guarded
def main(out: Path) -> None:
    """Write the sections that all trainings share, as they stand in params.yaml, once that is known to be right.

    Args:
        out: the file.
    """
    load(Params, Path("params.yaml"))
    content = read_yaml(Path("params.yaml"))
    shared = {name: content.get(name) for name in SECTIONS}
    write_atomically(out, (json.dumps(shared, indent=1, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
