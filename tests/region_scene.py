"""Random predictions of a student and random regions of a teacher."""

from __future__ import annotations

import numpy as np
import torch

from rc2l_bench.losses.pseudo_regions import merge_classes
from rc2l_bench.losses.region_losses import (
    add_up,
    mask_consistency,
    members,
    region_class_consistency,
    region_feature_contrast,
    region_mask_contrast,
    unite,
)
from rc2l_bench.losses.regions import Regions, bounded, mask_probability, number_regions, of_query

K = 4
UNIONS = ["max", "any", "sum", "semantic"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


class Scene:
    """A student's prediction and a teacher's regions, at random; image 1 has no region, image 2 one, image 3 two.

    The first two regions of an image are of one class where `twins` is set.
    """

    def __init__(self, seed=0, *, images=4, queries=6, side=7, dtype=torch.float32, regions=3, twins=False):
        g = torch.Generator().manual_seed(seed)
        self.logits = (torch.randn(images, queries, K + 1, generator=g) * 2).to(dtype).requires_grad_()
        self.mask = (torch.randn(images, queries, side, side + 1, generator=g) * 3).to(dtype).requires_grad_()
        self.features = torch.randn(images, 5, side, side + 1, generator=g).to(dtype).requires_grad_()
        self.teacher = torch.randn(images, 5, side, side + 1, generator=g)
        self.semantic = torch.rand(images, K, side, side + 1, generator=g)
        index = torch.randint(-1, regions, (images, side, side + 1), generator=g)
        index[1:2] = -1
        index[2:3] = index[2:3].clamp(max=0)
        index[3:4] = index[3:4].clamp(max=1)
        order = torch.stack([torch.randperm(K, generator=g)[:regions] for _ in range(images)])
        if twins:
            order[:, 1] = order[:, 0]
        probability = torch.nn.functional.one_hot(order, K).float()
        found = number_regions(index, probability, (index >= 0) | (index < 0).flip(2))
        self.regions: Regions = found.first(int(found.present.sum(1).max()))
        order = torch.rand(images, queries, generator=g).argsort(1)[:, : self.regions.present.shape[1]]
        self.match = order.where(self.regions.present, -1)

    def leaves(self):
        return [self.logits, self.mask, self.features]

    def m(self):
        """Masks of the matched queries."""
        return mask_probability(of_query(self.mask, self.match), self.regions.valid)

    def add(self, value, over_regions="sum"):
        return add_up(value, self.match >= 0, over_regions)

    def rmc(self, temperature=0.7, overlap="dice", **how):
        return self.add(region_mask_contrast(self.m(), self.regions.mask(), self.match, temperature, overlap), **how)

    def rfc(self, temperature=0.3, **how):
        target = self.regions.mask()
        return self.add(region_feature_contrast(self.features, self.m(), target, self.match, temperature), **how)

    def rcc(self, **how):
        return self.add(region_class_consistency(self.logits, self.regions.label, self.match), **how)

    def smc(self, union="max", focal=20.0, dice=1.0, over_regions="sum"):
        regions, logits = self.regions, bounded(self.logits)
        merged, count = merge_classes(regions, regions.present.shape[1])
        member = members(logits, regions.label, merged.label, self.match)
        united = unite(self.mask, logits, member, merged.label, union)
        terms = mask_consistency(united, merged.mask(), regions.valid, focal, dice)
        return add_up(terms, count, over_regions)

    def consistency(self, focal=20.0, dice=1.0, **how):
        mine = bounded(of_query(self.mask, self.match))
        return self.add(mask_consistency(mine, self.regions.mask(), self.regions.valid, focal, dice), **how)

    def loss(self, name):
        """One of `LOSSES`; `smc any` names a union."""
        name, _, union = name.partition(" ")
        return self.smc(union) if union else getattr(self, name)()

    def images(self):
        """What `paper_reference` takes, in float64."""
        regions, arrays = self.regions, [x.detach().double().numpy() for x in self.leaves()]
        masks, found = regions.mask().numpy(), []
        for b, (logits, mask, features) in enumerate(zip(*arrays, strict=True)):
            segments = [
                (int(regions.label[b, i]), masks[b, i], int(q) if (q := self.match[b, i]) >= 0 else None)
                for i in np.flatnonzero(regions.present[b].numpy())
            ]
            image = {"logits": logits, "mask": mask, "features": features, "segments": segments}
            found.append(image | {"valid": regions.valid[b].numpy()})
        return found


LOSSES = ["rmc", "rfc", "rcc", "consistency", *(f"smc {how}" for how in UNIONS)]
