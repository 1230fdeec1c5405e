"""What was scored during training, joined over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_data import reseal, write_run

from rc2l_bench.report.curves import join_curves
from rc2l_bench.report.results import find


def write_seeds(root: Path, *histories: str):
    """Runs of one method, seed by seed, with the rows `step,miou`."""
    for seed, rows in enumerate(histories):
        folder = write_run(root, seed=seed, panels=0)
        (folder / "history.csv").write_text("step,loss,miou\n" + rows)
        reseal(folder)
    return find(root)[0]


def test_mean_lowest_and_highest_are_over_seeds(tmp_path):
    runs = write_seeds(tmp_path, "100,1,0.2\n200,1,0.5\n", "100,1,0.4\n200,1,0.9\n")
    found = join_curves(runs, "miou", []).reset_index()
    assert list(found) == ["step", "mean", "min", "max"]
    np.testing.assert_allclose(found, [[100, 0.3, 0.2, 0.4], [200, 0.7, 0.5, 0.9]])


def test_a_step_that_one_seed_alone_was_scored_at_is_kept_and_not_interpolated(tmp_path):
    runs = write_seeds(tmp_path, "100,1,0.2\n300,1,0.6\n", "200,1,0.9\n300,1,0.8\n")
    assert join_curves(runs, "miou", [])["mean"].to_dict() == pytest.approx({100: 0.2, 200: 0.9, 300: 0.7})


def test_there_is_nothing_where_nothing_was_scored(tmp_path):
    assert join_curves(write_seeds(tmp_path, "100,1,\n"), "miou", []) is None


def test_a_history_that_cannot_be_read_is_a_remark_and_the_others_are_joined(tmp_path):
    runs, remarks = write_seeds(tmp_path, "100,1,0.2\n", "100,1,0.4\n"), []
    (runs[1].folder / "history.csv").write_text("changed")
    assert join_curves(runs, "miou", remarks)["mean"].to_dict() == {100: 0.2}
    assert [remark.where for remark in remarks] == [str(runs[1].cell)]
