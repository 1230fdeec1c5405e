import json
import math

import pytest
from report_data import ROOT, params, reseal, write_run

from rc2l_bench.report import report as reports
from rc2l_bench.report.reliability import compare_reliability
from rc2l_bench.report.writer import compose, frame

GRID = params(method=["baselines/supervised", "baselines/cps"], split=["1_16"], seed=[0, 1])
METHODS = ("baselines/supervised", "baselines/cps")
TEMPLATES = ROOT / "reports" / "templates"


def write(root, seed, method="baselines/supervised", **more):
    """A run whose metrics.json holds more."""
    folder = write_run(root, method=method, seed=seed, panels=0)
    metrics = json.loads((folder / "metrics.json").read_text()) | more
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reseal(folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two seeds with all figures; of the other method, one run that is older."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        calibration = {"ece": 0.1 + 0.02 * seed, "ece_per_image": 0.2, "nll": 1.25, "nll_per_image": 1.5}
        write(root, seed, **calibration, corruptions={"noise": 0.25 + 0.1 * seed, "jpeg": 0.5})
    write(root, 0, "baselines/cps", ece=0.05, nll=0.5)
    write(root, 1, "baselines/cps")
    return reports.build(root, GRID)


def test_measures_are_means_over_seeds_with_their_deviation(report):
    table = compare_reliability(report.sections[0])
    names = [(measure.title, measure.part) for measure in table.measures]
    assert names == [
        ("ECE", "%, all pixels"), ("ECE", "%, mean of images"), ("NLL", "nats, all pixels"),
        ("NLL", "nats, mean of images"), ("noise", "mIoU, %"), ("jpeg", "mIoU, %"),
    ]  # fmt: skip
    ours, theirs = table.rows.values()
    assert ours[0] == pytest.approx((0.11, 0.02 / math.sqrt(2), 2))
    assert ours[4] == pytest.approx((0.3, 0.1 / math.sqrt(2), 2))
    assert theirs == (None,) * 6, "one of its runs does not have them"


@pytest.mark.parametrize("kind", ["html", "markdown", "latex"])
def test_measures_are_shown(report, kind):
    text = compose(report, kind, TEMPLATES)
    for shown in ("11.00 ± 1.41", "1.250 ± 0.000", "30.00 ± 7.07"):
        assert (shown.replace("±", r"$\pm$") if kind == "latex" else shown) in text


def test_the_table_for_programs_has_them_with_all_digits(report):
    table = frame(report)
    ours, theirs = (table[table["method"] == method] for method in METHODS)
    assert ours["ece"].tolist() == [0.1, 0.1 + 0.02]
    assert ours["miou/noise"].tolist() == [0.25, 0.25 + 0.1]
    assert theirs["miou/noise"].isna().all()
    assert theirs["nll"].isna().tolist() == [False, True]


def test_runs_without_any_are_shown_without_such_a_table(tmp_path):
    write(tmp_path, 0)
    report = reports.build(tmp_path, GRID)
    assert compare_reliability(report.sections[0]).measures == ()
    assert [remark for remark in report.remarks if "ECE" in remark.text] == []
    for kind in ("html", "markdown", "latex"):
        assert "NLL" not in compose(report, kind, TEMPLATES).split("How the numbers are made")[0]


@pytest.mark.parametrize(
    "absurd", [{"ece": 7, "nll": -1}, {"ece": "high"}, {"corruptions": [1]}, {"corruptions": {"noise": {}}}], ids=str
)
def test_what_cannot_be_is_left_out(tmp_path, absurd):
    write(tmp_path, 0, **absurd)
    assert compare_reliability(reports.build(tmp_path, GRID).sections[0]).measures == ()
