"""How sure a number is: intervals, differences of methods and their verdicts, how wide the intervals are.

A score varies for two reasons: another seed trains another network (on other labels, where the split is drawn by
seed), and other images would have been other questions. What the variance of a mean is made of, and how many standard
errors an interval takes, is in `variance`.

One interval answers everything: a verdict is that it excludes 0, a p-value is the level at which it would touch 0. Who
is left out of the best of a column has to stand a correction for all pairs in addition.
Scores are shares, 0..1; intervals have level 95 %. Nothing here is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats as distributions
from scipy.optimize import brentq

from rc2l_bench.metrics import Floats
from rc2l_bench.report.variance import Over, Pooled, Variance, critical_value, variance_of

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000
_SMALLEST_TAIL = 1e-100


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and how sure it is.

    Attributes:
        mean: mean over seeds.
        sd: standard deviation over seeds (n − 1); nan for one seed.
        n: seeds.
        low: lower end of the 95 % interval, nan where there is none.
        high: its upper end.
        over: what varies in the interval. With one seed no interval over seeds exists.
    """

    mean: float
    sd: float
    n: int
    low: float
    high: float
    over: Over


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of paired differences; interval, p-value and verdict say the same.

    Attributes:
        comparisons: differences that share the error of 5 %; the interval is wide enough for all of them together.
        variance: of the mean.
    """

    comparisons: int
    variance: Variance

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def tested(self) -> bool:
        """There are seeds enough for a verdict: an interval over images alone says nothing of other seeds."""
        return self.n > 1

    @property
    def differs(self) -> bool:
        """The methods can be told apart: there is a verdict, and the interval excludes 0."""
        return self.tested and (self.low > 0 or self.high < 0)

    @property
    def p(self) -> float:
        """Two-sided p-value of "no difference", corrected for all comparisons; nan without a verdict."""
        if not self.tested:
            return np.nan
        if not self.half:
            return float(self.mean == 0)
        return min(1.0, self.comparisons * _p_value(abs(self.mean), self.variance))

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds show a gap of this size with probability 0.8 and an interval like this; None if unknown."""
        spread = float(np.sqrt(self.variance.of_one)) if self.tested else np.nan
        return seeds_needed(self.mean, spread, float(np.sqrt(self.variance.images)), self.variance.cases)


class HalfWidths(NamedTuple):
    """Half the widths of several intervals.

    Attributes:
        typical: root of their mean square.
        least: the smallest.
        most: the largest.
    """

    typical: float
    least: float
    most: float


def estimate(values: Floats, left_out: Floats | None = None) -> Estimate:
    """Compute mean, spread and interval of a score.

    Args:
        values: (S,), one score per seed, S ≥ 1.
        left_out: (N, S), the scores without every image; None if there are no counts per image.
    """
    found = _interval(values, variance_of(values, left_out), 1)
    # A score is a share, whatever a symmetrical interval says.
    return replace(found, low=float(np.clip(found.low, 0, 1)), high=float(np.clip(found.high, 0, 1)))


def compare(
    values: Floats,
    reference: Floats,
    left_out: tuple[Floats, Floats] | None = None,
    comparisons: int = 1,
    pooled: Pooled | None = None,
) -> Difference:
    """Compute the paired difference of two methods over common seeds: values − reference.

    Seed k has the same labels, the same order of samples and the same images for both. With one seed the interval is
    over images only, for this difference alone, and there is no verdict.

    Args:
        values: (S,), scores of one method, one per seed.
        reference: (S,), scores of the other with the same seeds.
        left_out: (N, S) each, the scores without every image.
        comparisons: differences that are looked at together; each gets its share of the error (Bonferroni), because
            the studentized range (Games and Howell 1976) is far too narrow for 2 or 3 seeds and a variance of each
            pair's own.
        pooled: of the column. If given, the larger of the two variances over seeds is taken, with the degrees of
            freedom of the column: with 3 seeds, shares of the error are beyond the reach of 2 degrees. Our choice, by
            simulation; the column's alone left out too many methods that vary more than the others.
    """
    gap = values - reference
    variance = variance_of(gap, None if left_out is None else left_out[0] - left_out[1])
    if pooled and variance.n > 1:
        variance = variance._replace(seeds=max(variance.seeds, pooled.variance / variance.n), df=pooled.df)
    count = comparisons if len(gap) > 1 else 1
    return Difference(**vars(_interval(gap, variance, count)), comparisons=count, variance=variance)


def _interval(values: Floats, variance: Variance, comparisons: int) -> Estimate:
    sd = float(values.std(ddof=1)) if variance.n > 1 else np.nan
    mean, half = float(values.mean()), np.nan
    if variance.over != "nothing":
        half = variance.half((1 - LEVEL) / 2 / comparisons)
    return Estimate(mean, sd, variance.n, mean - half, mean + half, variance.over)


def _p_value(gap: float, variance: Variance) -> float:
    """Find the two-sided level at which half the width of the interval would be a difference."""
    if gap >= variance.half(_SMALLEST_TAIL):
        return 2 * _SMALLEST_TAIL
    # On a logarithmic scale, because tails span a hundred powers of ten.
    log_tail = brentq(lambda x: variance.half(float(np.exp(x))) - gap, np.log(_SMALLEST_TAIL), np.log(0.5))
    return float(2 * np.exp(log_tail))


def half_widths(differences: Sequence[Difference]) -> HalfWidths | None:
    """Summarise how wide the intervals of differences are.

    Args:
        differences: of a column; those without a verdict are left out.

    Returns:
        None if no difference has a verdict.
    """
    known = [d.half for d in differences if d.tested]
    return HalfWidths(float(np.sqrt(np.mean(np.square(known)))), min(known), max(known)) if known else None


def seeds_needed(gap: float, sd: float, se_images: float, cases: int = 0) -> int | None:
    """Compute how many seeds show a gap with probability 0.8.

    Args:
        gap: true difference.
        sd: standard deviation of the paired difference over seeds.
        se_images: the standard error that more seeds do not reduce.
        cases: images that it comes from; 0 = so many that it is known.

    Returns:
        The number of seeds, at least 2; None if even 1,000 are too few, because the images are, or if `sd` is unknown.
    """
    if not np.isfinite(sd) or gap == 0:
        return None
    n = np.arange(2, MOST_SEEDS + 1)
    over_seeds = sd**2 / n
    se = np.sqrt(over_seeds + se_images**2)
    if not se.any():
        return 2
    weight = over_seeds / se**2
    df = (n - 1) / np.maximum(weight, 1e-3) ** 2
    power = distributions.nct.sf(critical_value((1 - LEVEL) / 2, weight, n - 1, cases), df, abs(gap) / se)
    enough = np.flatnonzero(power >= POWER)
    return int(n[enough[0]]) if len(enough) else None
