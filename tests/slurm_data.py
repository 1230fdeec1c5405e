"""Commands of Slurm that answer what a test has written, and note what they were asked; for real: tests/cluster."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

COMMAND = """#!/bin/sh
name="$(basename "$0")"
[ "$name" = scontrol ] && name="scontrol-$1-$2"
[ "$1" = requeue ] && name=scontrol-requeue
here="$(dirname "$0")"
printf '%s\\n' "$@" >> "$here/$name.asked"
[ -f "$here/$name.refuse" ] && cat "$here/$name.refuse" >&2 && exit 1
[ -f "$here/$name.answer" ] && cat "$here/$name.answer"
exit 0
"""
ANSWERS = {
    "sbatch": "41\n", "scontrol-show-config": "MaxArraySize            = 1001\n", "squeue": "",
    "scontrol-show-partition": "PartitionName=gpu AllowGroups=ALL\nPartitionName=cpu AllowGroups=ALL\n",
}  # fmt: skip


class FakeSlurm:
    """A folder of commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scontrol"):
            (folder / name).write_text(COMMAND)
            (folder / name).chmod(0o755)
        for name, text in ANSWERS.items():
            self.answer(name, text)

    def answer(self, name: str, text: str) -> None:
        (self.folder / f"{name}.answer").write_text(text)

    def refuse(self, name: str, text: str) -> None:
        (self.folder / f"{name}.refuse").write_text(text)

    def asked(self, name: str) -> list[str]:
        path = self.folder / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []


def put_on_path(folder: Path, patch: pytest.MonkeyPatch) -> FakeSlurm:
    folder.mkdir()
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return FakeSlurm(folder)
