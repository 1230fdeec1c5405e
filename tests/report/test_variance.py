import numpy as np
import pytest
from report_data import confusions
from scipy.stats import t

from rc2l_bench.metrics import areas_of
from rc2l_bench.report import stats, variance


def test_scores_without_an_image_are_those_of_the_others():
    areas = np.stack([areas_of(confusions(q, images=7, seed=s)) for s, q in enumerate([0.5, 0.6])])
    fast = variance.leave_one_out(areas, "skip")
    for image in range(7):
        for run in range(2):
            total = sum(areas[run, i] for i in range(7) if i != image)
            ious = [hit / union for hit, union, truth in total.T if truth]
            assert fast[image, run] == pytest.approx(sum(ious) / len(ious), abs=1e-15)


@pytest.mark.parametrize("truth", [[[5]], [[5], [0]]])
def test_images_can_only_be_left_out_where_others_have_truth(truth):
    areas = np.repeat(np.array(truth, float)[None, :, None], 3, axis=2)
    with pytest.raises(ValueError, match="fewer than two images have truth"):
        variance.leave_one_out(areas, "skip")


@pytest.mark.parametrize("seeds", [0.0, 0.1], ids=["seeds that agree", "seeds that differ"])
def test_the_variance_is_that_of_readers_and_cases_by_hand(seeds):
    """Mean squares of a two-way table without repetition: (seeds + images − interaction) / (S · N).

    The mean square of seeds that happen to agree is that of the interaction.
    """
    rest = np.random.default_rng(3).normal(0, 0.1, (20, 4))
    table = rest - rest.mean(0) + seeds * np.arange(4) + np.linspace(-0.3, 0.3, 20)[:, None]
    left_out = (table.sum(0) - table) / 19
    found = variance.variance_of(table.mean(0), left_out)
    rows, columns = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    of_seeds, of_images = 20 * columns.var(ddof=1), 4 * rows.var(ddof=1)
    rest = np.square(table - rows - columns + table.mean()).sum() / (19 * 3)
    assert (of_seeds > rest) == (seeds > 0)
    assert found.of_one / 4 + found.images == pytest.approx((max(of_seeds, rest) + of_images - rest) / 80)


def test_three_seeds_that_agree_by_chance_have_an_interval_that_covers_what_it_says():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        table = generator.normal(0, 1, (50, 3)) + generator.normal(0, 0.5, (50, 1))
        left_out = (table.sum(0) - table) / 49
        made = stats.compare(table.mean(0), np.zeros(3), (left_out, np.zeros_like(left_out)))
        found.append((made.sd, made.low <= 0 <= made.high))
    agreeing = sorted(found)[:400]
    assert np.mean([covers for _, covers in agreeing]) > 0.93


def test_an_interval_is_never_narrower_than_that_of_the_seeds_alone():
    for weight in np.linspace(0.05, 1, 20):
        for tail in (0.025, 0.025 / 21):
            wanted = np.sqrt(weight) * t.isf(tail, 1)
            assert variance.critical_value(tail, weight, 1, 100) >= wanted * (1 - 1e-9)


def test_the_pooled_variance_is_that_of_two_methods_where_there_are_two():
    scores = np.array([[0.52, 0.55, 0.51, 0.56], [0.50, 0.51, 0.50, 0.53]])
    found = variance.pool(scores)
    assert found is not None
    assert (found.variance, found.df) == (pytest.approx((scores[0] - scores[1]).var(ddof=1)), 3)
    own = stats.compare(scores[0], scores[1], None, 3)
    assert stats.compare(scores[0], scores[1], None, 3, found).p == pytest.approx(own.p)
    wider = stats.compare(scores[0], scores[1], None, 3, variance.Pooled(4 * found.variance, 9))
    assert wider.half == pytest.approx(2 * own.half * t.isf(0.05 / 6, 9) / t.isf(0.05 / 6, 3))
    assert variance.pool(scores[:1]) is None
    assert variance.pool(scores[:, :1]) is None
