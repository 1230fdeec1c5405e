import numpy as np
import pytest
from report_data import CPS, SUPERVISED, write_run

from rc2l_bench.metrics import mean_iou
from rc2l_bench.report import stats
from rc2l_bench.report.results import find
from rc2l_bench.report.run_files import read_areas
from rc2l_bench.report.scores_on_test import compare_on_test


def runs_of(root, method):
    return [run for run in find(root)[0] if run.cell.method == method]


@pytest.fixture
def both(tmp_path):
    """Runs of two methods with three common seeds; the first has a fourth."""
    for seed in range(4):
        write_run(tmp_path, seed=seed, method=CPS, panels=0, test=True)
    for seed in range(3):
        write_run(tmp_path, seed=seed, panels=0, test=True)
    return runs_of(tmp_path, CPS), runs_of(tmp_path, SUPERVISED)


def slowly_left_out(runs):
    """mIoU on test without one image after the other, as (N, S)."""
    areas = np.stack([read_areas(run, "test")[1] for run in runs])
    return np.stack([mean_iou(np.delete(areas, image, 1).sum(1), "skip") for image in range(areas.shape[1])])


def test_the_difference_is_that_of_test_over_common_seeds(both):
    ours, theirs = both
    found = compare_on_test(*both)
    values, others = (np.array([run.miou_test for run in runs[:3]]) for runs in both)
    expected = stats.compare(values, others, (slowly_left_out(ours[:3]), slowly_left_out(theirs)))
    assert found is not None
    assert found.n == 3
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert found.mean != pytest.approx(np.mean([run.miou for run in ours[:3]]) - np.mean([run.miou for run in theirs]))


def test_without_common_seeds_there_is_none(both):
    ours, theirs = both
    assert compare_on_test(ours[3:], theirs) is None


def test_runs_without_counts_on_test_are_told(both, tmp_path):
    write_run(tmp_path / "other", panels=0)
    ours, _ = both
    with pytest.raises(ValueError, match="test"):
        compare_on_test(ours, runs_of(tmp_path / "other", SUPERVISED))


def test_runs_on_other_images_are_told(both, tmp_path):
    write_run(tmp_path / "other", panels=0, test=True, images=10)
    ours, _ = both
    with pytest.raises(ValueError, match="other images"):
        compare_on_test(ours, runs_of(tmp_path / "other", SUPERVISED))
