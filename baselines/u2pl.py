"""U2PL: reliable pixels of the teacher become labels, unreliable ones become negatives.

Wang et al., "Semi-Supervised Semantic Segmentation Using Unreliable Pseudo-Labels", CVPR 2022.

`described` is the paper's method. `as_published` has the effects of the contrastive loss that was released:

* Candidate anchors are listed over all classes but looked up by position among the classes that are present. With
  {0, 7, 14} present, the anchors of 1 and 2 are looked up for 7 and 14, and there are none: only class 0 learns. Where
  there are some, class i is contrasted with the negatives of the i-th class that is present.
* A pixel is a negative of a class only if the class is its own label. For labelled pixels this contradicts the rule
  that the class must not be the truth, so they never give negatives; unlabelled pixels give some, because their label
  comes from a pass over the unmixed image and the rank of the class from a second pass over the mixed one.
* With a single class present the loss is 0, and its weight is 1 where the paper has 0.1.

Departures of both variants from the released code: the representation head is two 1x1 convolutions on the decoder's
features instead of a branch beside the decoder; the teacher is in eval mode with averaged batch-norm statistics
(released: a second pass in train mode); percentiles are nearest ranks, those of the contrastive loss at the size of the
features; pixels outside the image take no part; the factor of the pseudo-label loss counts valid pixels; every image
has its own labels in the contrastive loss (released: the one-hot labels of all images of a process are written onto its
first one, labelled and unlabelled apart, so that of 4 + 4 images gradients reach images 0 and 4 only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rc2l_bench.config import Count, Model, NonNegative, OneView, Positive, Protocol, Share
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import (
    SUPERVISED,
    contrast,
    entropy,
    percentile,
    pseudo_label,
    reweighted_cross_entropy,
)
from rc2l_bench.methods.contract import LateConfig, MethodConfig, TaughtConfig, TaughtMethod, Teacher
from rc2l_bench.nets.lattice import Lattice, pick
from rc2l_bench.nets.memory_bank import MemoryBank, draw
from rc2l_bench.nets.pixel_net import PixelNet, conv
from rc2l_bench.processes import gather
from rc2l_bench.types import IGNORE, Batch


class ContrastWeight(Model):
    """Weight of the contrastive loss, by variant."""

    described: NonNegative
    as_published: NonNegative


class ContrastConfig(Model):
    """The numbers of the contrastive loss."""

    weight: ContrastWeight
    dim: Count
    """D: channels of the representation."""
    share: Share
    """Share of the unlabelled pixels with the lowest (anchors) and the highest entropy (negatives), at the start."""
    probability: Share
    """A candidate anchor has a teacher probability above this for its class."""
    ranks: tuple[Count, Count]
    """(r_l, r_h): negatives of a class are labelled pixels that rank it below r_l (0 = most probable) though it is
    not the truth, and unlabelled ones that rank it r_l or higher but below r_h."""
    anchors: Count
    """Anchors per class, drawn with replacement."""
    negatives: Count
    """Negatives per anchor, drawn with replacement."""
    bank: tuple[Count, Count]
    """Vectors that the memory bank holds for class 0, and for any other class."""
    temperature: Positive


class U2PLConfig(LateConfig, TaughtConfig):
    """The numbers of U2PL."""

    views: OneView
    variant: Literal["described", "as_published"]
    unreliable: Share
    """Share of the unlabelled pixels without a label, at the start; goes down to 0 linearly."""
    contrast: ContrastConfig


class Embedder(nn.Module):
    """A PixelNet with a representation head."""

    def __init__(self, net: PixelNet, dim: int) -> None:
        super().__init__()
        self.net = net
        self.head = nn.Sequential(conv(net.width, net.width, 1), nn.Conv2d(net.width, dim, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) -> class logits (B, K, H, W) and representations (B, D, h, w)."""
        features = self.net.decode(*self.net.encode(image))
        return self.net.classify(features, image.shape[-2:]), self.head(features)


def flatten(x: Tensor, labelled: int) -> Tensor:
    """The pixels of all processes, labelled images first: (B, C, h, w) -> (P, C), or (B, h, w) -> (P,)."""
    every = torch.cat([gather(x[:labelled]), gather(x[labelled:])])
    return every.movedim(1, 3).flatten(0, 2) if every.ndim == 4 else every.flatten()


@dataclass(frozen=True, slots=True)
class View:
    """What the teacher says of the labelled images, and of the unlabelled ones as the student sees them.

    Attributes:
        logits: (L + U, K, H, W).
        features: (L + U, D, h, w).
        label: (L + U, H, W) int64; the truth, then pseudo-labels; 255 = none.
        entropy: (U, H, W).
    """

    logits: Tensor
    features: Tensor
    label: Tensor
    entropy: Tensor


@dataclass(frozen=True, slots=True)
class Pixels:
    """The feature pixels P of all processes: labelled images first, then unlabelled ones.

    Attributes:
        logits: (P, K) of the teacher.
        features: (P, D) of the teacher.
        label: (P,) int64; 255 = none.
        truth: (P,) bool; the label is the truth.
        low: (P,) bool; the label is a pseudo-label of lowest entropy.
        high: (P,) bool; the label is a pseudo-label of highest entropy.
    """

    logits: Tensor
    features: Tensor
    label: Tensor
    truth: Tensor
    low: Tensor
    high: Tensor


def take_pixels(view: View, lattice: Lattice, share: float) -> Pixels:
    """Take the pixels of a view at the cells of its features.

    Args:
        view: of the teacher.
        lattice: where the cells of its features lie.
        share: of the unlabelled pixels that are `low`; as many are `high`.
    """
    labelled, size = len(view.label) - len(view.entropy), view.features.shape[-2:]
    label, uncertain = pick(view.label, lattice, size), pick(view.entropy, lattice, size)
    known = label != IGNORE
    guess = known[labelled:]
    low = guess & (uncertain <= percentile(uncertain, guess, share))
    high = guess & (uncertain >= percentile(uncertain, guess, 1 - share))
    none = torch.zeros_like(known)
    return Pixels(
        logits=flatten(pick(view.logits, lattice, size), labelled).float(),
        features=flatten(view.features, labelled).float(),
        label=flatten(label, labelled),
        truth=flatten(torch.cat([known[:labelled], none[labelled:]]), labelled),
        low=flatten(torch.cat([none[:labelled], low]), labelled),
        high=flatten(torch.cat([none[:labelled], high]), labelled),
    )


def assign(pixels: Pixels, config: ContrastConfig, published: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixel plays which part for which class.

    Args:
        pixels: P pixels.
        config: probability and ranks.
        published: the negatives of `as_published`.

    Returns:
        Three (K, P) bool: pixels that make up the centre of a class, candidate anchors among them, negatives.
    """
    classes = torch.arange(pixels.logits.shape[1], device=pixels.label.device)
    own = pixels.label == classes[:, None]
    member = own & (pixels.truth | pixels.low)
    anchor = member & (pixels.logits.softmax(1) > config.probability).T
    rank = pixels.logits.argsort(1, descending=True).argsort(1).T
    below, end = config.ranks
    negative = pixels.high & (rank >= below) & (rank < end)
    if published:
        return member, anchor, negative & own
    return member, anchor, negative | (pixels.truth & ~own & (rank < below))


def look_up(present: Tensor, published: bool) -> tuple[Tensor, Tensor]:
    """Which classes have a loss, and whose queue each of them looks into.

    Args:
        present: (K,) bool; classes that have a centre.
        published: position i among the classes that are present is taken for class i.

    Returns:
        (K,) bool and (K,) int64.
    """
    classes = torch.arange(len(present), device=present.device)
    if not published:
        return present, classes
    count = present.sum()
    return (classes < count) & (count > 1), (~present).byte().argsort(stable=True)


class U2PL(TaughtMethod):
    """PixelNet with representation head, its teacher, and a memory bank."""

    Config: ClassVar[type[MethodConfig]] = U2PLConfig
    config: U2PLConfig
    student: Embedder

    def __init__(self, config: U2PLConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = Embedder(PixelNet(protocol.net, num_classes), config.contrast.dim)
        self.student.head.requires_grad_(config.weight > 0)
        self.teacher = Teacher(self.student, config.decay, "average")
        first, other = config.contrast.bank
        self.bank = MemoryBank([first] + [other] * (num_classes - 1), config.contrast.dim)
        self.published = config.variant == "as_published"
        weight = config.contrast.weight
        self.contrast_weight = config.weight * (weight.as_published if self.published else weight.described)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    @torch.no_grad()
    def view(self, batch: Batch, mixed: Tensor) -> View:
        """The teacher's view; it labels the unmixed images, and what it says is mixed along the boxes."""
        box, count = batch.box[0], len(batch.image)
        logits, features = self.teacher.net(torch.cat([batch.image, batch.weak]))
        label = torch.cat([batch.label, paste(pseudo_label(logits[count:], batch.valid), box)])
        if self.published:
            logits, features = self.teacher.net(torch.cat([batch.image, mixed]))
        else:
            logits = torch.cat([logits[:count], paste(logits[count:], box)])
            small = pick(box, self.student.net.lattice, features.shape[-2:])
            features = torch.cat([features[:count], paste(features[count:], small)])
        return View(logits, features, label, entropy(logits[count:]))

    def contrastive(self, features: Tensor, view: View, share: float) -> Tensor:
        """The contrastive loss, a mean over the classes that have a centre; fills the memory bank first.

        Args:
            features: (L + U, D, h, w) of the student.
            view: of the teacher.
            share: see `take_pixels`.
        """
        config = self.config.contrast
        pixels = take_pixels(view, self.student.net.lattice, share)
        member, candidate, negative = assign(pixels, config, self.published)
        self.bank.add(F.normalize(pixels.features, dim=1), negative)
        present = member.any(1)
        slot, queue = look_up(present, self.published)
        learns = slot & candidate.any(1) & (self.bank.filled[queue] > 0)
        centre = F.normalize(member.float() @ pixels.features / member.sum(1, keepdim=True).clamp(min=1), dim=1)
        student = flatten(features, len(view.label) - len(view.entropy)).float()
        anchor = F.normalize(student[draw(candidate, config.anchors)], dim=2)
        far = self.bank.sample(queue, config.anchors, config.negatives)
        # Of all classes, whether they learn or not: to pick those that do, the host would have to know them.
        loss = contrast(anchor, centre, far, config.temperature).where(learns, 0.0)
        return loss.sum() / present.sum().clamp(min=1)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Supervised loss, cross-entropy with reliable pseudo-labels, contrastive loss."""
        if self.config.only_supervised(batch, progress):
            supervised = self.supervised_loss(self.student.net(batch.image), batch.label)
            none = torch.zeros_like(supervised)
            return {"supervised": supervised, "unsupervised": none, "contrast": none}
        count, left = len(batch.image), 1 - progress
        mixed = paste(batch.strong[0], batch.box[0])
        logits, features = self.student(torch.cat([batch.image, mixed]))
        view = self.view(batch, mixed)
        label, valid = view.label[count:], view.label[count:] != IGNORE
        limit = percentile(view.entropy, valid, 1 - self.config.unreliable * left)
        reliable = label.masked_fill(view.entropy > limit, IGNORE)
        return {
            "supervised": self.supervised_loss(logits[:count], batch.label),
            "unsupervised": self.config.weight * reweighted_cross_entropy(logits[count:], reliable, valid),
            "contrast": self.contrast_weight * self.contrastive(features, view, self.config.contrast.share * left),
        }

    def deployed(self) -> nn.Module:
        """Teacher or student, as `predict` says, without the representation head."""
        embedder = super().deployed()
        assert isinstance(embedder, Embedder)
        return embedder.net

    def pseudo_logits(self, image: Tensor) -> Tensor:
        """Compute the teacher's class logits, without its representations; see `Method.pseudo_logits`."""
        embedder = self.teacher.net
        assert isinstance(embedder, Embedder)
        out: Tensor = embedder.net(image)
        return out
