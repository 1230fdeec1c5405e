"""Random predictions of a student and random regions of a teacher."""

from __future__ import annotations

import torch

from rc2l_bench.losses.region_losses import (
    of_query,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    semantic_mask_consistency,
)
from rc2l_bench.losses.regions import Regions, mask_probability, number_regions, pool, semantic_map

K = 4


class Scene:
    """A student's prediction and a teacher's regions, at random; image 1 has no region."""

    def __init__(self, seed=0, images=4, queries=6, height=7, width=8, dim=5, dtype=torch.float32, regions=3):
        g = torch.Generator().manual_seed(seed)
        self.logits = (torch.randn(images, queries, K + 1, generator=g) * 2).to(dtype).requires_grad_()
        self.mask = (torch.randn(images, queries, height, width, generator=g) * 3).to(dtype).requires_grad_()
        self.features = torch.randn(images, dim, height, width, generator=g).to(dtype).requires_grad_()
        self.teacher = torch.randn(images, dim, height, width, generator=g)
        index = torch.randint(-1, regions, (images, height, width), generator=g)
        index[1:2] = -1
        probability = torch.rand(images, regions, K, generator=g).softmax(-1)
        self.semantic = torch.rand(images, K, height, width, generator=g)
        self.regions: Regions = number_regions(index, probability, index >= 0)
        order = torch.rand(images, queries, generator=g).argsort(1)[:, : self.regions.present.shape[1]]
        self.match = order.where(self.regions.present, -1)

    def leaves(self):
        return [self.logits, self.mask, self.features]

    def m(self):
        return mask_probability(self.mask, self.regions.valid)

    def rmc(self, temperature=0.3):
        return region_mask_contrast(self.m(), self.regions.mask(), self.match, temperature)

    def rfc(self, temperature=0.3, scope="batch", positives="matched"):
        student = of_query(pool(self.features, self.m()), self.match)
        teacher = pool(self.teacher, self.regions.mask())
        regions = self.regions
        return region_feature_contrast(
            student, teacher, regions.label, regions.present, self.match, temperature, scope, positives
        )

    def rcc(self, no_object=0.1):
        return region_class_consistency(self.logits, self.regions.probability, self.match, no_object)

    def smc(self, form="dice"):
        student = semantic_map(self.logits.float(), self.m())
        return semantic_mask_consistency(student, self.semantic, self.regions.classes(), self.regions.valid, form)

    def loss(self, name):
        return getattr(self, name)()

    def arrays(self):
        """What the references take, in float64."""
        regions = self.regions
        return (
            self.logits.detach().double().numpy(),
            self.m().detach().double().numpy(),
            regions.mask().double().numpy(),
            self.match.numpy(),
        )
