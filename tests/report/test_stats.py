import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numpy.testing import assert_allclose
from report_data import confusions
from scipy.stats import norm, ttest_rel

from rc2l_bench.draws import derive
from rc2l_bench.metrics import areas_of
from rc2l_bench.report import stats


def test_resampling_equals_counting_image_by_image():
    areas = np.stack([areas_of(confusions(q, images=7, seed=s)) for s, q in enumerate([0.5, 0.6])])
    fast = stats.resample_images(areas, 600, seed=3)
    generator = np.random.default_rng(derive(3, "stats/images"))
    times = np.concatenate([generator.multinomial(7, [1 / 7] * 7, size=n) for n in (256, 256, 88)])
    for b in (0, 255, 256, 599):
        drawn = np.repeat(np.arange(7), times[b])
        for run in range(2):
            total = sum(areas[run, i] for i in drawn)
            ious = [hit / union for hit, union in total.T if union]
            assert fast[b, run] == pytest.approx(sum(ious) / len(ious), abs=1e-15)


def test_all_runs_see_the_same_resampled_images():
    one = areas_of(confusions(0.6, images=20))
    draws = stats.resample_images(np.stack([one, one]), 300)
    assert (draws[:, 0] == draws[:, 1]).all()
    assert draws[:, 0].std() > 0


def test_a_class_that_a_resample_lacks_is_skipped_there():
    areas = np.zeros((1, 2, 2, 2))
    areas[0, 0] = [[5, 0], [10, 0]]  # image 0: class 0 at 0.5
    areas[0, 1] = [[0, 9], [0, 10]]  # image 1: class 1 at 0.9
    assert set(np.round(stats.resample_images(areas, 200)[:, 0], 9)) == {0.5, 0.9, 0.7}


def test_mean_and_deviation_by_hand():
    found = stats.estimate(np.array([0.4, 0.5, 0.6]))
    assert (found.mean, found.sd, found.n, found.over) == (pytest.approx(0.5), pytest.approx(0.1), 3, "seeds")
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=1e-6), pytest.approx(0.5 + half, abs=1e-6))


def test_one_seed_has_no_interval_over_seeds():
    without = stats.estimate(np.array([0.5]))
    assert np.isnan([without.sd, without.low, without.high]).all()
    assert without.over == "nothing"
    draws = np.linspace(0.4, 0.6, 1001)[:, None]
    images = stats.estimate(np.array([0.5]), draws)
    assert images.over == "images"
    assert (images.low, images.high) == (pytest.approx(0.405), pytest.approx(0.595))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_without_spread_over_images_the_bootstrap_is_close_to_students_interval(n):
    values = np.random.default_rng(n).normal(0.5, 0.01, n)
    draws = np.tile(values, (20_000, 1))
    bootstrap, student = stats.estimate(values, draws), stats.estimate(values)
    assert bootstrap.over == "seeds and images"
    assert (bootstrap.high - bootstrap.low) / (student.high - student.low) == pytest.approx(1, abs=0.25)


def _noise(generator, n, images):
    """Scores of n seeds on one draw of images and on resampled ones: seed sd 1, image sd of the mean 0.5."""
    score = generator.normal(0, 1, n)[:, None] + generator.normal(0, 0.5 * images**0.5, images)
    weights = generator.multinomial(images, [1 / images] * images, size=400) / images
    return score.mean(1), weights @ score.T


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_covers_the_truth_as_often_as_it_says(n):
    generator = np.random.default_rng(n)
    hits = [e.low <= 0 <= e.high for e in (stats.estimate(*_noise(generator, n, 40)) for _ in range(400))]
    assert 0.91 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize("n", [3, 5])
def test_the_test_rejects_a_true_null_at_most_as_often_as_it_says(n):
    generator = np.random.default_rng(n + 10)
    p = []
    for _ in range(400):
        values, draws = _noise(generator, n, 40)
        p.append(stats.compare(values, 0 * values, (draws, 0 * draws)).p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.06


def test_without_images_the_paired_test_is_students():
    ours, theirs = np.array([0.52, 0.55, 0.51, 0.56]), np.array([0.50, 0.51, 0.50, 0.53])
    found = stats.compare(ours, theirs)
    assert found.p == pytest.approx(ttest_rel(ours, theirs).pvalue)
    assert found.half == pytest.approx(ttest_rel(ours, theirs).confidence_interval().high - 0.025)


def test_variance_over_images_makes_a_gap_less_sure():
    ours, theirs = np.array([0.52, 0.55, 0.51]), np.array([0.50, 0.51, 0.50])
    shift = np.random.default_rng(0).normal(0, 0.03, (2000, 1))
    with_images = stats.compare(ours, theirs, (ours + shift, np.tile(theirs, (2000, 1))))
    assert with_images.se == pytest.approx(np.hypot(stats.compare(ours, theirs).se, 0.03), rel=0.05)
    assert with_images.p > stats.compare(ours, theirs).p


def test_a_test_over_images_alone_is_the_normal_one():
    draws = np.random.default_rng(0).normal(0, 0.01, (5000, 1))
    found = stats.compare(np.array([0.52]), np.array([0.5]), (0.52 + draws, 0.5 + 0 * draws))
    assert found.p == pytest.approx(2 * norm.sf(0.02 / found.se), rel=1e-6)


def test_a_gap_without_any_variance_is_certain():
    assert stats.compare(np.array([0.5, 0.6]), np.array([0.4, 0.5])).p < 1e-9


def test_what_both_methods_find_hard_cancels():
    values = np.array([0.5, 0.52])
    shared = np.random.default_rng(0).normal(0, 0.1, (500, 1))
    found = stats.compare(values + 0.01, values, (values + 0.01 + shared, values + shared))
    assert found.se_images == pytest.approx(0, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.01))


def test_a_method_against_itself_is_no_difference():
    values = np.array([0.5, 0.6, 0.7])
    assert stats.compare(values, values).p == 1


def test_one_seed_without_counts_cannot_be_tested():
    assert np.isnan(stats.compare(np.array([0.5]), np.array([0.4])).p)


def test_holm_by_hand_and_untested_ones_do_not_count():
    assert_allclose(stats.holm([0.01, 0.04, np.nan, 0.03]), [0.03, 0.06, np.nan, 0.06])
    assert stats.holm([0.9, 0.8]) == [1, 1]
    assert stats.holm([]) == []


@pytest.mark.parametrize(("n", "half"), [(3, 1.23), (5, 0.61), (10, 0.35)])
def test_the_resolution_floor_of_a_run_deviation_of_035(n, half):
    spread = np.linspace(-1, 1, n)
    gaps = spread / spread.std(ddof=1) * 0.35 * 2**0.5
    assert stats.resolution([stats.compare(gaps, np.zeros(n))]) == pytest.approx(half, abs=0.01)


def test_there_is_no_floor_without_comparisons():
    assert np.isnan(stats.resolution([]))
    assert np.isnan(stats.resolution([stats.compare(np.array([0.5]), np.array([0.4]))]))


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 34), (2.0, 5)])
def test_seeds_needed_equals_published_tables_of_the_paired_t_test(effect, n):
    assert stats.seeds_needed(effect, 1, 0) in (n - 1, n)


def test_no_number_of_seeds_shows_what_the_images_hide():
    assert stats.seeds_needed(0.01, 0.01, 0.01) is None
    assert stats.seeds_needed(0.01, np.nan, 0) is None
    assert stats.seeds_needed(0.0, 0.01, 0) is None
    assert stats.seeds_needed(0.01, 0.0, 0) == 2


@pytest.mark.slow
def test_voc_with_8_methods_and_5_seeds_takes_30_seconds_and_2_gb_at_most():
    code = """
        import resource, time
        import numpy as np
        from rc2l_bench.report import stats
        from rc2l_bench.metrics import mean_iou
        areas = np.random.default_rng(0).integers(0, 9000, (40, 1449, 2, 21)).astype(float)
        areas[:, :, 1] += areas[:, :, 0]
        start = time.perf_counter()
        draws = stats.resample_images(areas, 10_000)
        values = mean_iou(areas.sum(1))
        places = [slice(5 * m, 5 * m + 5) for m in range(8)]
        for m in places:
            stats.estimate(values[m], draws[:, m])
            stats.compare(values[m], values[places[0]], (draws[:, m], draws[:, places[0]]))
        print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    assert seconds < 30
    assert peak * (1 if sys.platform == "darwin" else 1024) < 2e9
