"""`rc2l-bench tune`."""

from __future__ import annotations

from pathlib import Path

import tiny_data
from commands_data import refused


def test_trials_that_look_at_one_another_are_not_for_a_cluster(slurm):
    Path("params.yaml").unlink()
    params = tiny_data.params(tuning={"default": {"sampler": "tpe"}})
    tiny_data.write_yaml(Path("params.yaml"), params)
    assert "tpe draws each trial by the scores of those before: leave out --on slurm" in refused(
        "tune", "--dataset", "tiny", "--on", "slurm"
    )
