"""How sure a number is: intervals, paired tests, ties, the smallest gap that can be seen.

A score varies for two reasons: another seed trains another network, and other images would have been other questions.
All runs of a column are scored on the same images, so seeds and images are crossed: a resample draws images once for
all runs, and seeds once for both sides of a difference (the bootstrap of crossed factors, Owen 2007, slightly
conservative). Scores are shares, 0..1; intervals have level 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions
from scipy.optimize import brentq

from rc2l_bench.draws import derive
from rc2l_bench.metrics import Absent, Floats, mean_iou

Over = Literal["seeds and images", "seeds", "images", "nothing"]

LEVEL = 0.95
POWER = 0.8
MOST_SEEDS = 1000
_CHUNK = 256
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
    """The mean of paired differences, and what a test needs of it.

    Attributes:
        se: standard error of the mean: seeds and images together.
        se_images: the part of it that more seeds do not make smaller.
        half: half the width of the 95 % interval that belongs to the test; nan where nothing can be tested.
        p: two-sided p-value of "no difference", not yet corrected for several comparisons; nan likewise.
    """

    se: float
    se_images: float
    half: float
    p: float


def resample_images(areas: Floats, resamples: int, absent: Absent = "skip", seed: int = 0) -> Floats:
    """The mIoU of every run on images drawn with replacement, the same draw for all runs.

    Counts are integers below 2^53, so their sums are exact and the result has the same bits on every machine.

    Args:
        areas: (R, N, 3, K), see `areas_of`, of R runs on the same N images.
        resamples: B, how often images are drawn.
        absent: what a class without truth counts for.
        seed: of the draws.

    Returns:
        (B, R), mIoU.
    """
    runs, images, kinds, classes = areas.shape
    generator = np.random.default_rng(derive(seed, "stats/images"))
    flat = np.ascontiguousarray(areas.transpose(1, 0, 2, 3)).reshape(images, -1)
    out = np.empty((resamples, runs))
    for start in range(0, resamples, _CHUNK):
        stop = min(start + _CHUNK, resamples)
        weights = generator.multinomial(images, np.full(images, 1 / images), size=stop - start)
        out[start:stop] = mean_iou(
            (weights.astype(np.float64) @ flat).reshape(stop - start, runs, kinds, classes), absent
        )
    return out


def resample_seeds(draws: Floats, seed: int = 0) -> Floats:
    """The second level: seeds drawn with replacement within every resample of the images.

    The plain bootstrap of n values has a variance (n − 1)/n times too small and normal instead of Student tails,
    which matters for the 3 to 5 seeds of this field. Deviations from the mean of the seeds are therefore stretched
    by √(n/(n − 1)) · t/z (our choice, after Hesterberg 2015, §4.2).

    Args:
        draws: (B, S), one column per seed.
        seed: of the draws.

    Returns:
        (B,), resampled means.
    """
    resamples, n = draws.shape
    centre = draws.mean(1)
    if n == 1:
        return np.asarray(centre)
    generator = np.random.default_rng(derive(seed, "stats/seeds"))
    weights = generator.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    tail = 0.5 + LEVEL / 2
    stretch = np.sqrt(n / (n - 1)) * distributions.t.ppf(tail, n - 1) / distributions.norm.ppf(tail)
    return np.asarray(centre + stretch * ((weights * draws).sum(1) - centre))


def _interval(values: Floats, draws: Floats | None) -> tuple[float, float, Over]:
    """The 95 % interval of a mean: percentiles of the bootstrap, or Student's when no image counts are known."""
    n = len(values)
    if draws is not None:
        low, high = np.nanquantile(resample_seeds(draws), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return float(low), float(high), "seeds and images" if n > 1 else "images"
    if n == 1:
        return np.nan, np.nan, "nothing"
    half = distributions.t.ppf(0.5 + LEVEL / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half), "seeds"


def estimate(values: Floats, draws: Floats | None = None) -> Estimate:
    """Mean, spread and interval of a score.

    Args:
        values: (S,), one score per seed, S ≥ 1.
        draws: (B, S), the scores on resampled images; None if there are no counts per image.
    """
    n = len(values)
    low, high, over = _interval(values, draws)
    return Estimate(float(values.mean()), float(values.std(ddof=1)) if n > 1 else np.nan, n, low, high, over)


def compare(values: Floats, reference: Floats, draws: tuple[Floats, Floats] | None = None) -> Difference:
    """Paired difference of two methods over common seeds: values − reference.

    The test divides the mean difference by the root of its variance over seeds plus its variance over images, and
    takes as critical value the mean of Student's (seeds, n − 1 degrees of freedom) and the normal one (images),
    weighted by their variances (Cochran and Cox 1957). Unlike Satterthwaite's it keeps its level with 3 seeds. With
    one seed only images vary, so the test says nothing about other seeds.

    Args:
        values: (S,), scores of one method, one per seed.
        reference: (S,), scores of the other with the same seeds.
        draws: (B, S) each, the scores on the same resampled images.
    """
    gap = values - reference
    gap_draws = None if draws is None else draws[0] - draws[1]
    base = estimate(gap, gap_draws)
    over_seeds = base.sd**2 / base.n if base.n > 1 else 0.0
    over_images = 0.0 if gap_draws is None else float(np.nanvar(gap_draws.mean(1), ddof=1))
    se = float(np.sqrt(over_seeds + over_images))
    half, p = np.nan, np.nan
    if base.over != "nothing":
        weight = over_seeds / se**2 if se else 0.0
        half = float(_critical(0.5 - LEVEL / 2, weight, base.n) * se)
        p = _p_value(abs(base.mean) / se, weight, base.n) if se else float(base.mean == 0)
    return Difference(**vars(base), se=se, se_images=float(np.sqrt(over_images)), half=half, p=p)


def _critical(tail: float, weight: float | Floats, n: int | NDArray[np.integer]) -> Floats:
    """The value that is exceeded with probability `tail`, for n seeds that make up `weight` of the variance."""
    seeds = distributions.t.isf(tail, np.maximum(np.asarray(n) - 1, 1))
    return np.asarray(weight * seeds + (1 - weight) * distributions.norm.isf(tail))


def _p_value(ratio: float, weight: float, n: int) -> float:
    """The level at which a ratio of difference to error would be just critical."""
    if ratio >= _critical(_SMALLEST_TAIL, weight, n):
        return 2 * _SMALLEST_TAIL
    log_tail = brentq(lambda x: float(_critical(np.exp(x), weight, n)) - ratio, np.log(_SMALLEST_TAIL), np.log(0.5))
    return float(2 * np.exp(log_tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may be held against 0.05 although several were looked at.

    Args:
        p_values: uncorrected; nan = not tested, stays nan and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def resolution(differences: Sequence[Difference]) -> float:
    """The resolution floor: a difference under this cannot be told from none with runs like these.

    Half the width of the test's 95 % interval, as the root of the mean square over the given differences; nan if none
    of them could be tested.
    """
    known = [d.half for d in differences if np.isfinite(d.half)]
    return float(np.sqrt(np.mean(np.square(known)))) if known else np.nan


def seeds_needed(gap: float, sd: float, se_images: float) -> int | None:
    """How many seeds show a gap with probability 0.8 in a paired test at 5 %.

    Args:
        gap: true difference.
        sd: standard deviation of the paired difference over seeds.
        se_images: the standard error that more seeds do not reduce.

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
    power = distributions.nct.sf(_critical(0.5 - LEVEL / 2, weight, n), df, abs(gap) / se)
    enough = np.flatnonzero(power >= POWER)
    return int(n[enough[0]]) if len(enough) else None
