"""MaskFormer's loss of a mask: sigmoid focal loss and dice loss over the pixels that take part."""

from __future__ import annotations

from torch import Tensor

from rc2l_bench.losses.regions import in_float32

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss and cost (MaskFormer)."""
SMOOTH = 1.0
"""ε of every dice loss, in pixels (MaskFormer)."""


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) = −log(1 − σ(x)); on a CPU this form is many times faster than torch's, which is not vectorised."""
    size = x.abs()
    return (x + size) / 2 - size.sigmoid().log()


@in_float32
def focal_and_dice(logits: Tensor, inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Compute focal and dice loss of masks.

    focal: mean over the pixels of −α (1 − m)^γ log m inside of the target, −(1 − α) m^γ log(1 − m) outside
    dice: 1 − (2 Σ m t + 1) / (Σ m + Σ t + 1)

    Args:
        logits: (..., P) finite mask logits, m = σ(logits).
        inside: broadcastable to (..., P), 1 on the pixels of the target t, else 0.
        outside: the same, 1 on the pixels that take part and are not of the target.

    Returns:
        Two tensors (...), at least float32.
    """
    area, pixels = inside.sum(-1), (inside + outside).sum(-1).clamp(min=1)
    x = logits * (outside - inside)  # now positive where it is wrong
    wrong = x.sigmoid()
    focal = (wrong**GAMMA * softplus(x) * (ALPHA * inside + (1 - ALPHA) * outside)).sum(-1) / pixels
    missed, extra = (wrong * inside).sum(-1), (wrong * outside).sum(-1)
    dice = 1 - (2 * (area - missed) + SMOOTH) / (2 * area - missed + extra + SMOOTH)
    return focal, dice
