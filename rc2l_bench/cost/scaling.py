"""Measure how memory and time of contrastive terms grow with the number of pixels: terms alone, made-up features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import linregress, t
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from rc2l_bench.cost.symbolic import track
from rc2l_bench.cost.worst_case import worst_case
from rc2l_bench.losses.matching import SetLossConfig, match_regions
from rc2l_bench.losses.region_losses import region_feature_contrast, region_mask_contrast
from rc2l_bench.losses.regions import label_regions, mask_probability, of_query
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.region_net import Prediction

CROPS = (65, 97, 129, 193, 257, 385, 513, 769, 1025)
IMAGES, CLASSES, DIM, QUERIES = 2, 21, 256, 100
"""VOC at paper scale, with a batch that is small enough to be timed on a laptop."""
TEMPERATURE = 0.1
MOST_BYTES = 1_500_000_000
"""Terms that need more are not timed: they would fill the memory of a laptop."""
ENOUGH_SECONDS = 2.0
"""A term is repeated until this much time has passed, at least once and at most `REPEATS` times."""
REPEATS = 7


class Work(NamedTuple):
    """A term that is ready to be computed.

    Attributes:
        loss: function that computes it.
        known: what the networks give, and what stays from step to step; its memory does not count.
    """

    loss: Callable[[], Tensor]
    known: list[Tensor]


Term = Callable[[int], Work]
"""Function that makes a term ready for a crop, pixels."""


class Fit(NamedTuple):
    """size ~ pixels^exponent, by least squares in logarithms.

    Attributes:
        exponent: the slope.
        low: end of its 95 % interval (Student's t on the residuals).
        high: the other end.
    """

    exponent: float
    low: float
    high: float


def side_of(crop: int) -> int:
    """Return height and width of a crop's features, at stride 4."""
    return (crop + 3) // 4


def make_labels(side: int) -> Tensor:
    """Make labels (IMAGES, side, side) int64: all classes in vertical stripes, as far as there is room."""
    return (torch.arange(side) * CLASSES // side).expand(IMAGES, side, side).contiguous()


def make_features(side: int, learns: bool) -> Tensor:
    """Draw features (IMAGES, DIM, side, side) float32."""
    return torch.randn(IMAGES, DIM, side, side).requires_grad_(learns)


def region_contrast(crop: int) -> Work:
    """Prepare RMC and RFC of RC²L with matching, as many regions per image as there are classes."""
    side = side_of(crop)
    # One decoder layer: that is the one whose masks the losses read. Logits learn nothing from these two losses.
    seen = Prediction(
        logits=torch.randn(IMAGES, 1, QUERIES, CLASSES + 1),
        embedding=torch.randn(IMAGES, 1, QUERIES, DIM).requires_grad_(),
        features=make_features(side, True),
        lattice=Lattice(4.0),
    )
    label = make_labels(side)
    weights = SetLossConfig(class_weight=1.0, focal_weight=20.0, dice_weight=1.0, no_object=0.1, ignored="excluded")

    # Finding the regions and matching them are in what is measured: the dense rival needs neither.
    def loss() -> Tensor:
        found = match_regions(seen, label_regions(label, CLASSES, "excluded"), weights, [-1])
        regions, match = found.regions, found.query[:, 0]
        mask, target = mask_probability(of_query(seen.mask(), match), regions.valid), regions.mask()
        features = region_feature_contrast(seen.features, mask, target, match, TEMPERATURE)
        return (features + region_mask_contrast(mask, target, match, TEMPERATURE, "dice")).sum()

    return Work(loss, [seen.logits, seen.embedding, seen.features, label])


def dense_contrast(crop: int) -> Work:
    """Prepare the dense rival: every pixel against every pixel of its image, those of its class are the positives.

    −mean over pixels p and pixels q of the same class of log softmax_q(⟨s_p, t_q⟩/τ), s of the student, t of the
    teacher, both of length 1; after the supervised contrast of Khosla et al., NeurIPS 2020 (L_out).
    """
    side = side_of(crop)
    features, teacher, label = make_features(side, True), make_features(side, False), make_labels(side)

    def loss() -> Tensor:
        student, other = (F.normalize(x.flatten(2), dim=1) for x in (features, teacher))
        score = (torch.einsum("bdp,bdq->bpq", student, other) / TEMPERATURE).log_softmax(-1)
        classes = label.flatten(1)
        same = classes[:, :, None] == classes[:, None]
        # Counted by class: torch copies a mask to 8 bytes per element before it sums it.
        count = F.one_hot(classes, CLASSES).sum(1).gather(1, classes)
        return -(score.where(same, 0.0).sum(-1) / count).mean()

    return Work(loss, [features, teacher, label])


def learn(work: Work) -> None:
    """Take forward and backward pass, down to what the networks gave."""
    work.loss().backward()  # type: ignore[no-untyped-call]
    # Or a second pass would add to the gradients of the first, and hold both.
    for tensor in work.known:
        tensor.grad = None


def weigh(term: Term, crop: int) -> tuple[int, int]:
    """Estimate peak memory of a term beyond what is known, and its FLOPs; worst case, nothing is computed.

    Returns:
        Bytes and FLOPs.
    """
    # Made inside of the mode, where even the features of the largest crop take no memory.
    with FakeTensorMode():
        work = term(crop)
        with worst_case():
            found = track(lambda: learn(work), work.known)
    return found.peak - sum(tensor.nbytes for tensor in work.known), found.flops


def clock(term: Term, crop: int) -> float:
    """Measure the seconds of a term, the median of a few passes after a first one.

    Returns:
        Processor seconds of all threads: other programs do not count, only slow down the memory.
    """
    torch.manual_seed(0)
    work = term(crop)
    learn(work)  # the first pass allocates and loads kernels
    seconds: list[float] = []
    while not seconds or (sum(seconds) < ENOUGH_SECONDS and len(seconds) < REPEATS):
        begin = time.process_time()
        learn(work)
        seconds.append(time.process_time() - begin)
    return median(seconds)


def measure(terms: dict[str, Term], crops: Sequence[int] = CROPS, most_bytes: int = MOST_BYTES) -> pd.DataFrame:
    """Measure memory, FLOPs and time of terms at every crop.

    Args:
        terms: by name.
        crops: sides, pixels.
        most_bytes: terms that need more are not timed.

    Returns:
        Columns `term`, `crop`, `pixels` (of the features of an image), `bytes`, `flops`, `seconds` (nan where a term
        needs more than `most_bytes`).
    """
    rows = []
    for name, term in terms.items():
        for crop in crops:
            size, flops = weigh(term, crop)
            # The estimate decides what is tried: a term that does not fit would take the whole machine with it.
            seconds = clock(term, crop) if size <= most_bytes else np.nan
            rows.append((name, crop, side_of(crop) ** 2, size, flops, seconds))
    return pd.DataFrame(rows, columns=["term", "crop", "pixels", "bytes", "flops", "seconds"])


def fit(pixels: Iterable[float], size: Iterable[float]) -> Fit:
    """Fit the exponent of a power law; sizes that are nan are left out.

    Args:
        pixels: of the features of an image.
        size: bytes, FLOPs or seconds, > 0.

    Raises:
        ValueError: there are fewer than three sizes.
    """
    x, y = np.array(list(pixels), float), np.array(list(size), float)
    known = np.isfinite(y)
    if known.sum() < 3:
        raise ValueError(f"a power law needs three sizes, got {known.sum()}")
    # In logarithms every size has the same weight; least squares on the sizes would see the largest crop alone.
    line = linregress(np.log(x[known]), np.log(y[known]))
    # Two parameters are fitted, so two degrees of freedom are gone.
    half = t.ppf(0.975, known.sum() - 2) * line.stderr
    return Fit(float(line.slope), float(line.slope - half), float(line.slope + half))


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """Fit exponents of every term, where at least three sizes are there.

    Args:
        table: from `measure`.

    Returns:
        Columns `term`, `quantity` (bytes, flops, seconds), `exponent`, `low`, `high`.
    """
    rows = [
        (name, quantity, *fit(part["pixels"], part[quantity]))
        for name, part in table.groupby("term", sort=False)
        for quantity in ("bytes", "flops", "seconds")
        if part[quantity].notna().sum() >= 3
    ]
    return pd.DataFrame(rows, columns=["term", "quantity", "exponent", "low", "high"])


def factor(table: pd.DataFrame, crop: int, many: str, few: str, quantity: str = "bytes") -> float:
    """Compute how many times as much one term needs as another at a crop.

    Args:
        table: from `measure`.
        crop: its side, pixels.
        many: the term above the fraction bar.
        few: the term below it.
        quantity: `bytes`, `flops` or `seconds`.
    """
    at = table[table["crop"] == crop].set_index("term")[quantity]
    return float(at[many] / at[few])
