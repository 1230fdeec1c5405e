from __future__ import annotations

import numpy as np
import pytest
from report_data import CLASSES, RC2L, RC2L_NONE, params, write_run

from rc2l_bench.report import report as reports
from rc2l_bench.report.comparability import declared_protocol
from rc2l_bench.report.formatting import averaged, duration, p_value, ratio, short_names, signed, tuning_finding

METHODS = ["baselines/supervised", "baselines/cps"]


def without_star(strays: int):
    """Takes the last class out of the truth, and lets a run predict some pixels of it."""

    def change(counts: np.ndarray) -> np.ndarray:
        counts[:, -1] = 0
        counts[:, :, -1] = 0
        counts[0, 0, -1] = strays
        return counts

    return change


def built(root, absent: str = "skip"):
    protocol = declared_protocol(params(), "shapes")
    protocol["eval"]["absent"] = absent
    for method, strays in zip(METHODS, (0, 42), strict=True):
        write_run(root, method=method, change=without_star(strays), protocol=protocol)
    return reports.build(root, params(dataset=["shapes"], split=["1_16"], method=METHODS, seed=[0])).sections[0]


ALIKE = "Tuned alike, 16 trials for every method on images that no number here has seen."
ITSELF = " A variant was not tuned for itself: it has what was chosen for its method, but for what it changes."


@pytest.mark.parametrize(
    ("statuses", "text"),
    [
        ({METHODS[0]: "tuned", METHODS[1]: "tuned"}, ALIKE),
        ({RC2L: "tuned", RC2L_NONE: "tuned"}, ALIKE + ITSELF),
        (
            {METHODS[0]: "untuned", METHODS[1]: "untuned"},
            "Not tuned: every row has the protocol's learning rate and its method's own numbers.",
        ),
        (
            {METHODS[0]: "untuned", METHODS[1]: "tuned"},
            "Rows differ in how they were tuned (16 trials: cps; untuned: supervised): their differences are not the "
            "methods' alone.",
        ),
    ],
    ids=["alike", "with a variant", "not at all", "one of two"],
)
def test_how_rows_were_tuned_is_said_in_one_finding(tmp_path, statuses, text):
    for method, status in statuses.items():
        write_run(tmp_path, method=method, record={"tuning": {"status": status, "trials": 16}})
    grid = params(dataset=["shapes"], split=["1_16"], method=list(statuses), seed=[0])
    assert tuning_finding(reports.build(tmp_path, grid).sections[-1]) == text


def test_the_classes_of_the_mean_are_named_and_the_same_for_every_run(tmp_path):
    section = built(tmp_path)
    assert averaged(section) == (
        "mIoU is the mean over 5 of 6 classes, the same for every run: star has no pixel in val. "
        "What is predicted so counts as an error of the class that it hides."
    )
    assert {run.averaged_classes for run in section.runs} == {CLASSES[:-1]}
    assert all(group.final for group in section.groups.values())


@pytest.mark.parametrize(
    ("absent", "text"),
    [
        ("zero", "all 6 classes; one without a pixel in val counts as 0, as"),
        ("predicted", "0 for the runs that predict it"),
    ],
)
def test_another_rule_is_said_to_be_the_protocols(tmp_path, absent, text):
    assert text in averaged(built(tmp_path, absent))


def test_a_section_without_runs_says_nothing(tmp_path):
    assert averaged(reports.build(tmp_path, params(dataset=["shapes"])).sections[0]) == ""


def test_short_names_stay_apart():
    assert short_names(["a/x", "b/x", "b/y"]) == {"a/x": "a/x", "b/x": "b/x", "b/y": "y"}
    assert short_names(["x/y", "z/x/y"]) == {"x/y": "x/y", "z/x/y": "z/x/y"}


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (signed(-0.0123), "−1.2"), (signed(0.0004), "0.0"), (signed(float("nan")), ""), (p_value(0.0001), "< 0.001"),
        (duration(61.6), "1 min 02 s"), (duration(3900), "1 h 05 min"), (duration(59.6), "1 min 00 s"),
        (ratio(1.5), "×1.50"),
    ],
)  # fmt: skip
def test_numbers_are_written_so(made, text):
    assert made == text
