"""Stage `scan`: names, sizes and times of the user's own files, so that a change of them is noticed.

It runs whenever the pipeline is looked at, because DVC has to be told files by name and a folder of the user is not
known beforehand. What it writes changes only when a file does, and only then do the later stages run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rc2l_bench.console import guarded
from rc2l_bench.data.datasets.registry import render_inputs
from rc2l_bench.files import write_atomically


@guarded
def main(dataset: str, out: str) -> None:
    """Write one line for each file outside of `data` that a data set is made of; none for those that are fetched.

    Args:
        dataset: its name.
        out: path of the list.
    """
    data = render_inputs(dataset)
    if not Path(out).is_file() or Path(out).read_bytes() != data:
        write_atomically(Path(out), data)


if __name__ == "__main__":
    # Not typer, whose import takes longer than everything else here.
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("out")
    main(**vars(parser.parse_args()))
