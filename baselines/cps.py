"""CPS: two networks of equal form teach each other with hard labels.

Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", CVPR 2021. `plain` is the paper's
main form, with the cross loss on labelled and unlabelled images; `cutmix` labels the unmixed images with each network
(in train mode, without gradient), mixes images and labels alike, and has the cross loss on mixed images only.

Departures from the released code: the CutMix partner is the other image of the pair (in the released code, by an
accident of seeding, it can be the same image); labelled and unlabelled images pass a network together, so batch norm
sees them as one batch; pixels outside the image, and pixels that the truth ignores, take no part in the cross loss.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from rc2l_bench.config import Protocol
from rc2l_bench.data.augment import paste
from rc2l_bench.losses.pixel_losses import SUPERVISED, cross_entropy, pseudo_label
from rc2l_bench.methods.contract import LateConfig, Method, MethodConfig, Scored
from rc2l_bench.methods.pixel_means import PixelMeans
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.types import IGNORE, Batch


class CPSConfig(LateConfig):
    """Numbers of CPS; with weight 0 only the first network is trained."""

    variant: Literal["plain", "cutmix"]
    """`plain`: weak images; `cutmix`: mixed images."""
    ensemble: bool
    """Predicts with the mean of both networks; published figures are those of the first one."""

    @model_validator(mode="after")
    def _consistent(self) -> CPSConfig:
        wanted = int(self.variant == "cutmix")
        if self.views.strong != wanted:
            raise ValueError(f"variant {self.variant} needs views.strong = {wanted}, got {self.views.strong}")
        if self.ensemble and not self.weight:
            raise ValueError("ensemble needs a weight above 0, because without one only the first network is trained")
        return self


class CPS(PixelMeans, Method):
    """Two PixelNets with different initialisation."""

    Config: ClassVar[type[MethodConfig]] = CPSConfig
    config: CPSConfig

    def __init__(self, config: CPSConfig, protocol: Protocol, num_classes: int) -> None:
        super().__init__(config, protocol, num_classes)
        self.student = PixelNet(protocol.net, num_classes)
        self.second = PixelNet(protocol.net, num_classes)
        # Without a cross loss the second network teaches nobody. It is then no part of the optimiser, of what processes
        # exchange, and of the parameters that cost.json counts as trained.
        self.second.requires_grad_(config.weight > 0)
        self.supervised_loss = SUPERVISED[protocol.supervised_loss]

    def _cross_plain(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits of both networks on labelled and weak images, and the two cross losses.

        The paper's form, L_cps = L_cps^l + L_cps^u: the cross loss is on labelled images, too.
        """
        images = torch.cat([batch.image, batch.weak])
        valid = torch.cat([batch.label != IGNORE, batch.valid])
        logits = [net(images) for net in (self.student, self.second)]
        # Reversed: each network learns from the other.
        labels = [pseudo_label(x, valid) for x in reversed(logits)]
        return logits, [cross_entropy(x, label) for x, label in zip(logits, labels, strict=True)]

    def _cross_mixed(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Compute logits of both networks on labelled and mixed images, and the two cross losses on the mixed ones."""
        box, count = batch.box[0], len(batch.image)
        with torch.no_grad():
            # The second network's labels come first, because the first network learns from them. The networks stay in
            # train mode, as in the released code: these passes move their running statistics, too.
            labels = [paste(pseudo_label(net(batch.weak), batch.valid), box) for net in (self.second, self.student)]
        images = torch.cat([batch.image, paste(batch.strong[0], box)])
        logits = [net(images) for net in (self.student, self.second)]
        return logits, [cross_entropy(x[count:], label) for x, label in zip(logits, labels, strict=True)]

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute supervised and cross loss of both networks."""
        if self.config.only_supervised(batch, progress):
            # In a warm-up the second network learns from the labels too; at its end each has something to teach.
            nets = (self.student, self.second) if self.config.weight else (self.student,)
            supervised = [self.supervised_loss(net(batch.image), batch.label) for net in nets]
            cross = [torch.zeros_like(supervised[0])] * 2
            supervised = [*supervised, cross[0]][:2]  # 0 for a second network that is not trained
        else:
            logits, cross = self._cross_mixed(batch) if self.config.variant == "cutmix" else self._cross_plain(batch)
            supervised = [self.supervised_loss(x[: len(batch.image)], batch.label) for x in logits]
        return {
            "supervised": supervised[0],
            "supervised_second": supervised[1],
            "cross": self.config.weight * cross[0],
            "cross_second": self.config.weight * cross[1],
        }

    def pixels(self, batch: Batch) -> dict[str, Tensor]:
        """Count the labelled pixels, and those that have a cross loss."""
        labelled = (batch.label != IGNORE).sum()
        if self.config.variant == "cutmix":
            cross = paste(batch.valid, batch.box[0]).sum()
        else:
            cross = labelled + batch.valid.sum()
        return {"supervised": labelled, "supervised_second": labelled, "cross": cross, "cross_second": cross}

    def predict(self, image: Tensor) -> Tensor:
        """Compute logits of the first network; with `ensemble`, of the mean probability of both.

        Args:
            image: (B, 3, H, W) float, [0, 1].

        Returns:
            (B, K, H, W).
        """
        first: Tensor = self.student(image)
        if not self.config.ensemble:
            return first
        both = torch.stack([first, self.second(image)])
        # log(p₁ + p₂) without leaving logarithms; the missing log 2 is the same for all classes, and softmax drops it.
        return both.log_softmax(2).logsumexp(0)

    def pseudo_logits(self, image: Tensor) -> Tensor:
        """Compute logits of the second network, from which the first one learns; see `Method.pseudo_logits`."""
        out: Tensor = self.second(image)
        return out

    @property
    def scored(self) -> Scored:
        """Weights of the first network, the student, or of both."""
        return "ensemble" if self.config.ensemble else "student"

    def deployed(self) -> nn.Module:
        """Return the first network; with `ensemble`, both."""
        return nn.ModuleList([self.student, self.second]) if self.config.ensemble else self.student
