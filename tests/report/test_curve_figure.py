"""Curves of what was scored during training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_data import build, params, reseal, write_run

from rc2l_bench.report.curve_figure import draw_learning, draw_pseudo_labels

GRID = params(method=["baselines/supervised", "baselines/cps"], split=["1_16"], seed=[0, 1])
HISTORY = "step,loss,miou,pseudo_miou\n50,1.0,,\n100,0.9,0.4,{first}\n200,0.8,0.5,0.7\n"


def section(root: Path, *, scored: bool = True):
    for seed in (0, 1):
        write_run(root, seed=seed)
        folder = write_run(root, method="baselines/cps", seed=seed)
        if scored:
            (folder / "history.csv").write_text(HISTORY.format(first=0.5 + 0.1 * seed))
            reseal(folder)
    return build(root, GRID).sections[0]


def lines(drawn) -> dict[str, np.ndarray]:
    figure, _ = drawn
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}


def test_the_curve_of_pseudo_labels_is_the_mean_over_seeds(tmp_path):
    found = lines(draw_pseudo_labels(section(tmp_path), []))
    assert list(found) == ["cps"]
    np.testing.assert_allclose(found["cps"], [[100, 55], [200, 70]])


def test_there_is_no_figure_of_pseudo_labels_where_nobody_scored_them(tmp_path):
    assert draw_pseudo_labels(section(tmp_path, scored=False), []) is None


def test_learning_curves_are_of_val(tmp_path):
    found = lines(draw_learning(section(tmp_path), []))
    assert sorted(found) == ["cps", "supervised"]
    np.testing.assert_allclose(found["cps"], [[100, 40], [200, 50]])


def test_a_history_that_cannot_be_read_is_a_remark_and_the_other_seed_is_drawn(tmp_path):
    made, remarks = section(tmp_path), []
    (tmp_path / "shapes/1_16/baselines/cps/seed1/history.csv").write_text("changed")
    found = lines(draw_pseudo_labels(made, []))
    np.testing.assert_allclose(found["cps"], [[100, 50], [200, 70]])
    draw_learning(made, remarks)
    assert len(remarks) == 1
    assert remarks[0].text.startswith("no learning curve: history.csv")


@pytest.mark.parametrize("draw", [draw_learning, draw_pseudo_labels])
def test_a_caption_says_what_a_band_is(tmp_path, draw):
    assert "from the lowest to the highest seed" in draw(section(tmp_path), [])[1]
