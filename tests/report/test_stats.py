import subprocess
import sys
import textwrap
from itertools import combinations

import numpy as np
import pytest
from memory_data import PEAK
from numpy.testing import assert_allclose
from scipy.stats import t, ttest_rel

from rc2l_bench.metrics import mean_iou
from rc2l_bench.report import stats, variance


def test_mean_and_deviation_by_hand():
    found = stats.estimate(np.array([0.4, 0.5, 0.6]))
    assert (found.mean, found.sd, found.n, found.over) == (pytest.approx(0.5), pytest.approx(0.1), 3, "seeds")
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.low, found.high) == (pytest.approx(0.5 - half, abs=1e-6), pytest.approx(0.5 + half, abs=1e-6))


def test_one_seed_has_no_interval_over_seeds():
    without = stats.estimate(np.array([0.5]))
    assert np.isnan([without.sd, without.low, without.high]).all()
    assert without.over == "nothing"
    scores = np.random.default_rng(0).normal(0.5, 0.1, 25)
    images = stats.estimate(scores.mean(keepdims=True), ((scores.sum() - scores) / 24)[:, None])
    assert images.over == "images"
    # Of a mean, the jackknife gives the textbook's standard error.
    assert images.high - images.mean == pytest.approx(t.ppf(0.975, 24) * scores.std(ddof=1) / 5)


def test_without_spread_over_images_the_interval_is_students():
    values = np.random.default_rng(1).normal(0.5, 0.01, 3)
    bare, counted = stats.estimate(values), stats.estimate(values, np.tile(values, (30, 1)))
    assert (counted.over, bare.over) == ("seeds and images", "seeds")
    assert_allclose([counted.low, counted.high], [bare.low, bare.high])


def test_an_interval_of_scores_stays_within_its_scale():
    found = stats.estimate(np.array([0.97, 0.99]))
    assert (found.low, found.high) == (pytest.approx(0.98 - 12.7062 * 0.01, abs=1e-5), 1)


SEEDS_SD, IMAGES_SD, REST_SD = 0.015, 0.12, 0.1
"""Of the share of a class that is found: as much as `shapes` has, whose seeds have labels of their own."""


def _simulate(generator, skills, n, images):
    """Scores of methods, (M, n), and the same without every image, (N, M, n); classes of unequal sizes."""
    methods, classes = len(skills), 3
    truth = generator.lognormal(0, 1, (images, classes)) * [1, 0.3, 0.1]
    shares = np.reshape(skills, (methods, 1, 1, 1)) + generator.normal(0, SEEDS_SD, (methods, n, 1, 1))
    shares = shares + generator.normal(0, IMAGES_SD, (methods, 1, images, classes))
    hit = truth * (shares + generator.normal(0, REST_SD, (methods, n, images, classes)))
    # As many pixels are taken for a class by mistake as are missed.
    areas = np.stack([hit, 2 * truth - hit, np.broadcast_to(truth, hit.shape)], axis=-2).reshape(-1, images, 3, classes)
    left_out = variance.leave_one_out(areas, "skip").reshape(images, methods, n)
    return mean_iou(areas.sum(1), "skip").reshape(methods, n), left_out


def _true_score(skill):
    """The mIoU over all images, mean over all seeds."""
    points, weights = np.polynomial.hermite_e.hermegauss(20)
    share = skill + SEEDS_SD * points
    return float((share / (2 - share)) @ weights / weights.sum())


@pytest.mark.slow
@pytest.mark.parametrize(("images", "rounds"), [(30, 10_000), (1000, 600)])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(n, images, rounds):
    generator = np.random.default_rng([n, images])
    truth = _true_score(0.72) - _true_score(0.70)
    hits, agree = 0, 0
    for _ in range(rounds):
        scores, left_out = _simulate(generator, [0.72, 0.70], n, images)
        found = stats.compare(scores[0], scores[1], (left_out[:, 0], left_out[:, 1]))
        hits += found.low <= truth <= found.high
        agree += (found.p < 0.05) == found.differs == (not found.low <= 0 <= found.high)
    assert agree == rounds
    # With two seeds nothing that is valid at all shares of the two variances is nearer to 95 % at some of them.
    assert 0.93 <= hits / rounds <= (0.985 if n == 2 else 0.97), hits / rounds


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_seven_equal_methods_one_is_wrongly_left_out_in_5_percent_of_all_cases_at_most(n):
    generator = np.random.default_rng(n)
    pairs, wrong, rounds = list(combinations(range(7), 2)), 0, 600
    for _ in range(rounds):
        scores, left_out = _simulate(generator, [0.7] * 7, n, 60)
        both = {pair: tuple(left_out[:, m] for m in pair) for pair in pairs}
        pooled = variance.pool(scores)
        wrong += any(stats.compare(scores[a], scores[b], both[a, b], 21, pooled).differs for a, b in pairs)
    assert wrong / rounds <= 0.05, wrong / rounds


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("comparisons", [1, 21])
def test_interval_p_value_and_verdict_are_one(n, comparisons):
    generator = np.random.default_rng(n)
    found = []
    for _ in range(60):
        scores, left_out = _simulate(generator, [0.72, 0.70], n, 30)
        found.append(stats.compare(scores[0], scores[1], (left_out[:, 0], left_out[:, 1]), comparisons))
        edge = found[-1].mean - found[-1].low
        # Moved until the interval touches 0, the p-value is 0.05.
        touching = stats.compare(
            scores[0] - found[-1].mean + edge, scores[1], (left_out[:, 0], left_out[:, 1]), comparisons
        )
        assert touching.p == pytest.approx(0.05, rel=1e-6)
    assert all((d.p < 0.05) == d.differs == (d.low > 0 or d.high < 0) for d in found)


def test_several_comparisons_share_the_error():
    ours, theirs = np.array([0.52, 0.55, 0.51, 0.56]), np.array([0.50, 0.51, 0.50, 0.53])
    one, ten = stats.compare(ours, theirs), stats.compare(ours, theirs, comparisons=10)
    assert ten.p == pytest.approx(10 * one.p)
    assert ten.half / one.half == pytest.approx(t.isf(0.0025, 3) / t.isf(0.025, 3))


def test_without_images_the_paired_test_is_students():
    ours, theirs = np.array([0.52, 0.55, 0.51, 0.56]), np.array([0.50, 0.51, 0.50, 0.53])
    found = stats.compare(ours, theirs)
    assert found.p == pytest.approx(ttest_rel(ours, theirs).pvalue)
    assert found.half == pytest.approx(ttest_rel(ours, theirs).confidence_interval().high - 0.025)


def test_a_gap_without_any_variance_is_certain():
    assert stats.compare(np.array([0.5, 0.6]), np.array([0.4, 0.5])).p < 1e-9


def test_what_both_methods_find_hard_cancels():
    values = np.array([0.5, 0.52])
    shared = values + np.random.default_rng(0).normal(0, 0.1, (50, 1))
    found = stats.compare(values + 0.01, values, (shared + 0.01, shared))
    assert found.variance.images == pytest.approx(0, abs=1e-12)
    assert (found.low, found.high) == (pytest.approx(0.01), pytest.approx(0.01))


def test_a_method_against_itself_is_no_difference():
    values = np.array([0.5, 0.6, 0.7])
    assert stats.compare(values, values).p == 1


def test_one_seed_without_counts_cannot_be_tested():
    found = stats.compare(np.array([0.5]), np.array([0.4]))
    assert np.isnan([found.p, found.low, found.high]).all()
    assert not found.differs


@pytest.mark.parametrize(("n", "half"), [(3, 1.23), (5, 0.61), (10, 0.35)])
def test_half_widths_of_a_run_deviation_of_035(n, half):
    spread = np.linspace(-1, 1, n)
    gaps = spread / spread.std(ddof=1) * 0.35 * 2**0.5
    found = stats.half_widths([stats.compare(gaps, np.zeros(n))])
    assert found == pytest.approx((half, half, half), abs=0.01)


def test_the_typical_width_is_the_root_of_the_mean_square():
    spread = np.array([-1.0, 0.0, 1.0])
    narrow, wide = (stats.compare(scale * spread, np.zeros(3)) for scale in (0.01, 0.07))
    found = stats.half_widths([wide, narrow, stats.compare(np.array([0.5]), np.array([0.4]))])
    assert found is not None
    assert (found.least, found.most) == (narrow.half, wide.half)
    assert found.typical == pytest.approx(5 * narrow.half)


def test_there_are_no_widths_without_comparisons():
    assert stats.half_widths([]) is None
    assert stats.half_widths([stats.compare(np.array([0.5]), np.array([0.4]))]) is None


@pytest.mark.parametrize(("effect", "n"), [(1.0, 10), (0.5, 34), (2.0, 5)])
def test_seeds_needed_equals_published_tables_of_the_paired_t_test(effect, n):
    assert stats.seeds_needed(effect, 1, 0) in (n - 1, n)


def test_no_number_of_seeds_shows_what_the_images_hide():
    assert stats.seeds_needed(0.01, 0.01, 0.01) is None
    assert stats.seeds_needed(0.01, np.nan, 0) is None
    assert stats.seeds_needed(0.0, 0.01, 0) is None
    assert stats.seeds_needed(0.01, 0.0, 0) == 2


@pytest.mark.slow
def test_voc_with_8_methods_and_5_seeds_takes_2_gb_at_most():
    code = """
        import numpy as np
        from rc2l_bench.report import stats, variance
        from rc2l_bench.metrics import mean_iou
        areas = np.random.default_rng(0).integers(0, 9000, (40, 1449, 3, 21)).astype(float)
        areas[:, :, 1] += areas[:, :, 0]
        left_out = variance.leave_one_out(areas, "skip")
        values = mean_iou(areas.sum(1), "skip")
        places = [slice(5 * m, 5 * m + 5) for m in range(8)]
        for m in places:
            stats.estimate(values[m], left_out[:, m])
            stats.compare(values[m], values[places[0]], (left_out[:, m], left_out[:, places[0]]))
        print(PEAK)
    """.replace("PEAK", PEAK)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2e9
