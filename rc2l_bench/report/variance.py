"""The variance of a mean over seeds that were all scored on the same images, and the critical values that belong to it.

Seeds and images are crossed, as readers and cases are in diagnostic imaging; the variance is that field's (Obuchowski
and Rockette 1995; Hillis 2007): the variance over seeds, which holds the interaction already, plus the covariance over
images of two *different* seeds. Adding the whole variance over images would count the interaction twice.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rc2l_bench.metrics import Absent, Floats, mean_iou

Over = Literal["seeds and images", "seeds", "images", "nothing"]

MIXING = 1.5
"""Exponent of the share of the seeds in a critical value, see `critical_value`; our choice, by simulation."""


class Variance(NamedTuple):
    """What the variance of a mean over seeds is made of.

    Attributes:
        seeds: variance over seeds and its interaction with images, divided by the number of seeds; 0 for one seed.
        interaction: what `seeds` is at least, as the counts of every image tell; 0 where none are known.
        images: variance that more seeds do not reduce; 0 where no counts are known.
        n: seeds.
        cases: images; 0 where no counts are known.
        df: degrees of freedom of `seeds`.
    """

    seeds: float
    interaction: float
    images: float
    n: int
    cases: int
    df: int

    @property
    def of_one(self) -> float:
        """Variance of one seed, without what more seeds do not reduce."""
        return self.n * max(self.seeds, self.interaction)

    @property
    def over(self) -> Over:
        """What varies in an interval."""
        if self.n > 1:
            return "seeds and images" if self.cases else "seeds"
        return "images" if self.cases else "nothing"

    def half(self, tail: float) -> float:
        """Give half the width of the interval that is left on either side with probability `tail`.

        Seeds may agree by chance, and two or three often do. The interval is therefore never narrower than it is where
        seeds vary by their interaction with the images alone, which is known from as many numbers as there are images.
        Our choice: a component of variance is not negative.
        """
        by_seeds = self._half(tail, self.seeds, self.df)
        return max(by_seeds, self._half(tail, self.interaction, max((self.n - 1) * (self.cases - 1), 1)))

    def _half(self, tail: float, seeds: float, df: int) -> float:
        whole = seeds + self.images
        return float(critical_value(tail, seeds / whole, df, self.cases) * np.sqrt(whole)) if whole else 0.0


class Pooled(NamedTuple):
    """What all methods of a column together say about the variance of a difference over seeds.

    Attributes:
        variance: over seeds, of the difference of two methods.
        df: its degrees of freedom.
    """

    variance: float
    df: int


def leave_one_out(areas: Floats, absent: Absent) -> Floats:
    """Score every run without one image after the other, for the jackknife over images.

    Args:
        areas: (R, N, 3, K), see `areas_of`, of R runs on the same N images.
        absent: what a class without truth counts for.

    Returns:
        (N, R), mIoU.

    Raises:
        ValueError: fewer than two images have truth.
    """
    scores = mean_iou(areas.sum(1, keepdims=True) - areas, absent).T
    # Counts are integers below 2^53, so sums and differences are exact: an image's share leaves no rounding behind.
    if len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError("fewer than two images have truth")
    return scores


def variance_of(values: Floats, left_out: Floats | None) -> Variance:
    """Split the variance of a mean over seeds; images by the jackknife (Efron and Stein 1981).

    Args:
        values: (S,), one score per seed.
        left_out: (N, S), the scores without every image; None if there are no counts per image.
    """
    n = len(values)
    over_seeds = float(values.var(ddof=1)) / n if n > 1 else 0.0
    if left_out is None:
        return Variance(over_seeds, 0.0, 0.0, n, 0, max(n - 1, 1))
    cases = len(left_out)
    factor = (cases - 1) / cases
    of_sum = factor * float(np.square(left_out.sum(1) - left_out.sum(1).mean()).sum())
    of_seeds = factor * float(np.square(left_out - left_out.mean(0)).sum())
    if n == 1:  # which has no other to covary or to interact with
        return Variance(0.0, 0.0, of_sum, n, cases, 1)
    # An estimate of a covariance may be negative, the variance it stands for not.
    over_images = max(of_sum - of_seeds, 0.0) / (n * (n - 1))
    interaction = max(of_seeds / n - over_images, 0.0) / n
    return Variance(over_seeds, interaction, over_images, n, cases, n - 1)


def pool(scores: Floats) -> Pooled | None:
    """Estimate the variance of a difference over seeds from all methods of a column.

    Args:
        scores: (M, S), every method with the same seeds.

    Returns:
        Twice the mean square of what method and seed do not explain, with (M − 1)(S − 1) degrees of freedom; None for
        fewer than two methods or seeds.
    """
    methods, seeds = scores.shape
    df = (methods - 1) * (seeds - 1)
    if df < 1:
        return None
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return Pooled(2 * float(np.square(rest).sum()) / df, df)


def critical_value(tail: float, weight: float | Floats, df: int | NDArray[np.integer], cases: int) -> Floats:
    """Compute the critical value where a variance over seeds, with `df`, makes up `weight` of the whole.

    Cochran and Cox (1957) take the mean of Student's values for both parts, weighted by their variances, which is too
    wide; the share of the seeds to the power of 1.5 comes closer to the level. Far out in the tails both are too narrow
    for 2 or 3 seeds, therefore: never narrower than Student's interval over the seeds alone. Satterthwaite's degrees of
    freedom, which Hillis uses, cover as little as 87 % with 2 seeds.
    """
    images = _student(cases - 1, tail) if cases else -special.ndtri(tail)
    seeds = _student(df, tail)
    share = np.asarray(weight)
    return np.asarray(np.maximum(images + (seeds - images) * share**MIXING, np.sqrt(share) * seeds))


def _student(df: int | NDArray[np.integer], tail: float) -> Floats:
    """Give the value that Student's t exceeds with probability `tail`."""
    return np.asarray(-special.stdtrit(df, tail))
