"""IoU by class, averaged over seeds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from report_data import CLASSES, GRID, SUPERVISED, build, write_run

from rc2l_bench.report.class_table import class_table
from rc2l_bench.report.comparison import Key


def section(*seeds: dict[str, float], classes: tuple[str, ...] = ("a", "b")) -> SimpleNamespace:
    """A section with one group, whose seeds have these IoUs."""
    runs = [SimpleNamespace(iou=lambda one=one: one) for one in seeds]
    return SimpleNamespace(classes=classes, groups={Key("m", "1_4"): SimpleNamespace(runs=runs)})


@pytest.mark.filterwarnings("error")
def test_a_class_is_averaged_over_the_seeds_that_have_it():
    table = class_table(section({"a": 0.25, "b": np.nan}, {"a": 0.75, "b": 0.5}))
    assert table[Key("m", "1_4")].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("seeds", [({"a": 0.5, "b": np.nan},), ({"a": 0.25}, {"a": 0.75})])
def test_a_class_that_no_seed_has_is_nan(seeds):
    first, second = class_table(section(*seeds))[Key("m", "1_4")]
    assert (first, np.isnan(second)) == (0.5, True)


def test_groups_without_results_and_sections_without_classes_have_no_row():
    assert class_table(section()) == {}
    assert class_table(section({"a": 1.0}, classes=())) == {}


def test_of_a_report_it_is_the_mean_of_what_runs_say(tmp_path):
    for seed in range(2):
        write_run(tmp_path, seed=seed, panels=0)
    made = build(tmp_path, GRID).sections[0]
    key = Key(SUPERVISED, "1_16")
    assert list(class_table(made)) == [key]
    ious = [[run.iou()[name] for name in CLASSES] for run in made.groups[key].runs]
    assert class_table(made)[key] == pytest.approx(np.mean(ious, 0))
