"""Types that cross module borders, and the letters of shapes.

The letters of shapes, the same in every module:
    B images of a batch, L labelled images, U unlabelled images, V strong views, K classes,
    Q queries, R regions, D embedding channels, H W pixels, h w pixels of a feature map (H/4, W/4).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""Label of pixels that take part in no loss and no metric: void borders, padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One training batch on the training device, after augmentation.

    Unlabelled images of one batch come in pairs: image 2i and image 2i + 1 are each other's CutMix partner.
    A method that wants no unlabelled images gets U = 0.

    Attributes:
        image: (L, 3, H, W) float, [0, 1]; labelled images, weakly augmented.
        label: (L, H, W) int64, 0..K-1 or 255.
        weak: (U, 3, H, W) float, [0, 1]; unlabelled images, weakly augmented.
        strong: (V, U, 3, H, W) float, [0, 1]; the same geometry as `weak`, stronger colours if wanted, not yet mixed.
        box: (V, U, H, W) bool; CutMix, True where a pixel is to come from the partner.
        valid: (U, H, W) bool; False where the weak view lies outside the source image.
    """

    image: Tensor
    label: Tensor
    weak: Tensor
    strong: Tensor
    box: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        # Shapes only: looking at values would make the device wait for every batch. Assertions, because a batch is
        # built by this suite alone; what users write is checked where it is read.
        views, unlabelled = self.strong.shape[:2]
        height, width = self.image.shape[-2:]
        assert self.label.shape == (len(self.image), height, width), self.label.shape
        assert self.weak.shape == (unlabelled, 3, height, width), self.weak.shape
        assert self.box.shape == (views, unlabelled, height, width), self.box.shape
        assert self.valid.shape == (unlabelled, height, width), self.valid.shape

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name; `Batch(**tensors)` is this batch again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
