"""The strong views that a method wants: a part of its yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rc2l_bench.bounds import Forms, Share, rising
from rc2l_bench.schema import Model


class MixConfig(Model):
    """CutMix boxes of one strong view."""

    probability: Share
    """Probability that an image is mixed with its partner at all."""
    boxes: Annotated[int, Field(ge=1, le=8)]
    """Boxes per image; overlapping boxes are XOR-ed (CPS uses 3, U2PL and UniMatch 1)."""
    area: Annotated[tuple[Share, Share], AfterValidator(rising)]
    """Range of the share of the image that all boxes together would cover; drawn uniformly, shared among the boxes."""
    ratio: Forms
    """Range of height / width of a box; drawn log-uniformly."""


class Views(Model):
    """The strong views that a method wants of each unlabelled image."""

    strong: Annotated[int, Field(ge=0, le=4)]
    recolour: bool
    """Whether strong views have the strong colours of the protocol; if not, they are the weak view, with boxes."""
    mix: MixConfig


class OneView(Views):
    """For methods that have one strong view."""

    strong: Literal[1]


class TwoViews(Views):
    """For methods that have two strong views."""

    strong: Literal[2]
