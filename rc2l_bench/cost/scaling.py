"""How memory and time of contrastive terms grow with the number of pixels: the terms alone, on made-up features."""

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
from rc2l_bench.losses.region_losses import of_query, region_feature_contrast, region_mask_contrast
from rc2l_bench.losses.regions import Regions, label_regions, mask_probability, pool
from rc2l_bench.nets.lattice import Lattice
from rc2l_bench.nets.region_net import Prediction

CROPS = (65, 97, 129, 193, 257, 385, 513, 769, 1025)
IMAGES, CLASSES, DIM, QUERIES = 2, 21, 256, 100
"""VOC at paper scale, with a batch that is small enough to be timed on a laptop."""
TEMPERATURE = 0.1
MOST_BYTES = 1_500_000_000
"""Terms that need more are not timed."""
ENOUGH_SECONDS = 2.0
"""A term is repeated until this much time has passed, at least once and at most `REPEATS` times."""
REPEATS = 7


class Work(NamedTuple):
    """A term that is ready to be computed.

    Attributes:
        loss: computes it.
        known: what the networks give, and what stays from step to step; its memory does not count.
    """

    loss: Callable[[], Tensor]
    known: list[Tensor]


Term = Callable[[int], Work]
"""Makes a term ready for a crop."""


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
    """Height and width of a crop's features, at stride 4."""
    return (crop + 3) // 4


def make_labels(side: int) -> Tensor:
    """(IMAGES, side, side) int64, every class in every image, in vertical stripes as far as there is room."""
    return (torch.arange(side) * CLASSES // side).expand(IMAGES, side, side).contiguous()


def make_features(side: int, learns: bool) -> Tensor:
    """(IMAGES, DIM, side, side) float32."""
    return torch.randn(IMAGES, DIM, side, side).requires_grad_(learns)


def region_contrast(crop: int) -> Work:
    """RMC and RFC of RC²L with matching, as many regions per image as there are classes."""
    side = side_of(crop)
    seen = Prediction(
        logits=torch.randn(IMAGES, 1, QUERIES, CLASSES + 1),
        embedding=torch.randn(IMAGES, 1, QUERIES, DIM).requires_grad_(),
        features=make_features(side, True),
        lattice=Lattice(4.0),
    )
    teacher, label = make_features(side, False), make_labels(side)
    weights = SetLossConfig(class_weight=1.0, focal_weight=20.0, dice_weight=1.0, no_object=0.1, ignored="excluded")

    def loss() -> Tensor:
        regions: Regions = label_regions(label, CLASSES, "excluded")
        match = match_regions(seen, regions, weights, [-1])[:, 0]
        mask, target = mask_probability(seen.mask(), regions.valid), regions.mask().float()
        student = pool(seen.features, of_query(mask, match))
        given = (regions.label, regions.present, match, TEMPERATURE)
        features = region_feature_contrast(student, pool(teacher, target), *given, "batch", "matched")
        return features + region_mask_contrast(mask, target, match, TEMPERATURE)

    return Work(loss, [seen.logits, seen.embedding, seen.features, teacher, label])


def dense_contrast(crop: int) -> Work:
    """Every pixel against every pixel of its image, pixels of its class are the positives.

    −mean over pixels p and pixels q of the same class of log softmax_q(⟨s_p, t_q⟩/τ), s of the student, t of the
    teacher, both of length 1.
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
    """Forward and backward pass, down to what the networks gave."""
    work.loss().backward()  # type: ignore[no-untyped-call]
    for tensor in work.known:
        tensor.grad = None


def weigh(term: Term, crop: int) -> tuple[int, int]:
    """Peak memory of a term beyond what is known, bytes, and its FLOPs; worst case, nothing is computed."""
    with FakeTensorMode():
        work = term(crop)
        with worst_case():
            found = track(lambda: learn(work), work.known)
    return found.peak - sum(tensor.nbytes for tensor in work.known), found.flops


def clock(term: Term, crop: int) -> float:
    """Processor seconds of a term, the median of a few passes after a first one."""
    torch.manual_seed(0)
    work = term(crop)
    learn(work)
    seconds: list[float] = []
    while not seconds or (sum(seconds) < ENOUGH_SECONDS and len(seconds) < REPEATS):
        begin = time.process_time()
        learn(work)
        seconds.append(time.process_time() - begin)
    return median(seconds)


def measure(terms: dict[str, Term], crops: Sequence[int] = CROPS, most_bytes: int = MOST_BYTES) -> pd.DataFrame:
    """Memory, FLOPs and time of terms at every crop.

    Returns:
        Columns `term`, `crop`, `pixels` (of the features of an image), `bytes`, `flops`, `seconds` (nan where a term
        needs more than `most_bytes`).
    """
    rows = []
    for name, term in terms.items():
        for crop in crops:
            size, flops = weigh(term, crop)
            seconds = clock(term, crop) if size <= most_bytes else np.nan
            rows.append((name, crop, side_of(crop) ** 2, size, flops, seconds))
    return pd.DataFrame(rows, columns=["term", "crop", "pixels", "bytes", "flops", "seconds"])


def fit(pixels: Iterable[float], size: Iterable[float]) -> Fit:
    """The exponent of a power law; sizes that are not there are left out.

    Raises:
        ValueError: there are fewer than three sizes.
    """
    x, y = np.array(list(pixels), float), np.array(list(size), float)
    known = np.isfinite(y)
    if known.sum() < 3:
        raise ValueError(f"a power law needs three sizes, got {known.sum()}")
    line = linregress(np.log(x[known]), np.log(y[known]))
    half = t.ppf(0.975, known.sum() - 2) * line.stderr
    return Fit(float(line.slope), float(line.slope - half), float(line.slope + half))


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """Exponents of every term: columns `term`, `quantity` (bytes, flops, seconds), `exponent`, `low`, `high`."""
    rows = [
        (name, quantity, *fit(part["pixels"], part[quantity]))
        for name, part in table.groupby("term", sort=False)
        for quantity in ("bytes", "flops", "seconds")
        if part[quantity].notna().sum() >= 3
    ]
    return pd.DataFrame(rows, columns=["term", "quantity", "exponent", "low", "high"])


def factor(table: pd.DataFrame, crop: int, many: str, few: str, quantity: str = "bytes") -> float:
    """How many times as much one term needs as another at a crop."""
    at = table[table["crop"] == crop].set_index("term")[quantity]
    return float(at[many] / at[few])
