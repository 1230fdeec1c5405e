"""The forms in which documents quote evidence."""

from __future__ import annotations

import json

import pytest
from report_data import CPS, RC2L, SUPERVISED, params, quoted, reseal, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report.quotes import Library


@pytest.fixture
def library_of_teachers(tmp_path):
    """Evidence of two methods, of which one has scored its pseudo-labels and its calibration."""
    write_run(tmp_path / "taught", panels=0, test=True)
    folder = write_run(tmp_path / "taught", method=CPS, panels=0, test=True)
    (folder / "history.csv").write_text("step,miou,pseudo_miou\n500,0.5,0.3\n")
    metrics = json.loads((folder / "metrics.json").read_text()) | {"ece": 0.05, "nll": 1.25}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reseal(folder)
    return Library(tmp_path, params())


def final(library, method, split="1_16"):
    section = library.section("shapes", "", None)
    return next(group.final for key, group in section.groups.items() if key == (method, split))


def test_a_figure_is_the_mean_of_the_runs(library):
    found = final(library, CPS)
    assert quoted(library, "shapes miou method=cps split=1_16") == f"{100 * found.mean:.1f} ± {100 * found.sd:.1f}"


def test_seeds_stand_in_their_order(library):
    runs = library.section("shapes", "", None).groups[CPS, "1_4"].runs
    expected = ", ".join(f"{100 * run.miou:.1f}" for run in runs)
    assert quoted(library, "shapes seeds method=cps split=1_4") == expected
    assert len(runs) == 3


def test_a_difference_is_against_the_reference_that_is_asked_for(library):
    against = [quoted(library, f"shapes gap method=rc2l split=1_16{more}") for more in ("", " reference=cps")]
    means = [final(library, RC2L).mean - final(library, other).mean for other in (SUPERVISED, CPS)]
    assert [text.split()[0] for text in against] == [f"{100 * mean:+.1f}" for mean in means]


def test_a_table_has_a_row_for_each_method_and_all_its_numbers(library):
    head, rule, *rows = quoted(library, "shapes table split=1_16").splitlines()
    assert head == "| method | mIoU | against supervised | memory, MiB (resident) | step, ms | training |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert [row.split(" | ")[0] for row in rows] == ["| supervised", "| cps", "| rc2l"]
    assert all(row.count("|") == 7 for row in rows)
    assert f"{100 * final(library, CPS).mean:.1f}" in rows[1]
    assert "×1.60" in rows[1]


def test_names_are_escaped_and_one_seed_has_no_spread(library):
    text = quoted(library, "small table")
    assert r"| supervised\_region |" in text
    assert "±" not in text


def test_learning_is_the_mean_over_seeds_at_every_evaluation(library):
    head, _, *rows = quoted(library, "shapes learning split=1_16").splitlines()
    assert head == "| method | step 250 | step 500 | step 750 | step 1\u202f000 |"
    # The runs of the fixture rise in these shares of their final score.
    shares, last = (0.6, 0.85, 1.01, 1.0), final(library, CPS).mean
    assert rows[1] == " | ".join(["| cps", *(f"{100 * last * share:.1f}" for share in shares)]) + " |"


def test_learning_has_rows_for_the_methods_that_have_the_score(library_of_teachers):
    _, _, *rows = quoted(library_of_teachers, "taught learning score=pseudo_miou").splitlines()
    assert rows == ["| cps | 30.0 |"]


def test_learning_by_a_score_that_no_run_has_is_told(library):
    with pytest.raises(UsageError, match=r"score=pseudo_miou: no run has it"):
        quoted(library, "shapes learning split=1_16 score=pseudo_miou")


def test_classes_are_the_means_over_seeds(library):
    head, _, *rows = quoted(library, "shapes classes split=1_16").splitlines()
    section = library.section("shapes", "", None)
    assert head == f"| method | {' | '.join(section.classes)} |"
    runs = section.groups[CPS, "1_16"].runs
    means = [100 * sum(run.iou()[name] for run in runs) / len(runs) for name in section.classes]
    assert rows[1] == " | ".join(["| cps", *(f"{mean:.1f}" for mean in means)]) + " |"


def test_iou_is_the_mean_over_the_classes_that_are_named(library):
    section = library.section("shapes", "", None)
    first, last = section.classes[0], section.classes[-1]
    runs = section.groups[CPS, "1_16"].runs
    mean = 100 * sum(run.iou()[name] for run in runs for name in (first, last)) / (2 * len(runs))
    assert quoted(library, f"shapes iou method=cps split=1_16 names={first},{last}") == f"{mean:.1f}"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("iou method=cps split=1_16 names=nothing", "names=nothing: valid: "),
        ("seeds method=cps split=1_16 part=tests", "part=tests: did you mean 'test'"),
        ("gap method=cps split=1_16 part=tests", "part=tests: did you mean 'test'"),
    ],
)
def test_options_that_name_nothing_are_told(library, words, text):
    with pytest.raises(UsageError, match=text):
        quoted(library, f"shapes {words}")


def test_a_difference_on_test_is_that_of_test(library_of_teachers):
    groups = library_of_teachers.section("taught", "", None).groups
    (ours,), (theirs,) = groups[CPS, "1_16"].runs, groups[SUPERVISED, "1_16"].runs
    text = quoted(library_of_teachers, "taught gap method=cps part=test")
    assert text.split()[0] == f"{100 * (ours.miou_test - theirs.miou_test):+.1f}".replace("-", "−")


def test_a_difference_on_test_needs_scores_on_test(library):
    with pytest.raises(UsageError, match="part=test: "):
        quoted(library, "shapes gap method=cps split=1_16 part=test")


def test_seeds_on_test_are_those_of_test(library_of_teachers):
    runs = library_of_teachers.section("taught", "", None).groups[CPS, "1_16"].runs
    assert quoted(library_of_teachers, "taught seeds method=cps part=test") == f"{100 * runs[0].miou_test:.1f}"
    assert runs[0].miou_test != runs[0].miou


def test_reliability_has_test_and_calibration_and_says_nothing_of_what_a_run_lacks(library_of_teachers):
    head, _, *rows = quoted(library_of_teachers, "taught reliability").splitlines()
    assert head == "| method | mIoU on test | ECE, %, all pixels | NLL, nats, all pixels |"
    assert [row.split(" | ")[2:] for row in rows] == [["", " |"], ["5.00", "1.250 |"]]
    tested = library_of_teachers.section("taught", "", None).groups[CPS, "1_16"].test
    assert rows[1].split(" | ")[1] == f"{100 * tested.mean:.1f}"


@pytest.mark.parametrize(
    "words", ["shapes scores", "shapes findings", "shapes hardware", "shapes runs", "shapes width split=1_4"]
)
def test_every_form_gives_something(library, words):
    assert quoted(library, words)
