"""Kinds of numbers and names in configurations, with bounds beyond which a value is a slip of the hand.

A value beyond its bound would overflow float32, fill any memory, or train nonsense without a word. Bounds lie well
outside of what any published recipe uses.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from rc2l_bench.errors import UsageError

T = TypeVar("T")

MOST_SEED = 2**53 - 1
"""Whole numbers up to here are the same to every reader of JSON and CSV."""
TINY, HUGE = 1e-8, 1e6
"""Products and quotients of several numbers between these stay inside float32, which reaches from 1e-38 to 3e38."""


def rising(pair: tuple[float, float]) -> tuple[float, float]:
    """Check that a range goes from small to large."""
    if pair[0] > pair[1]:
        raise ValueError(f"goes from small to large, got {list(pair)}")
    return pair


def different(values: list[T]) -> list[T]:
    """Check that a list names nothing twice."""
    if len(values) > len(set(values)):
        raise ValueError(f"names something twice: {values}")
    return values


def check_name(kind: str, name: str) -> None:
    """Check a name that was given on the command line, before it becomes a part of paths and commands.

    Args:
        kind: what it names, for the message.
        name: what was given.

    Raises:
        UsageError: it has other characters, or too many.
    """
    if not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{kind} {name[:LONGEST_NAME]!r}: a name has letters, digits, '_', '-' and '.', begins with a letter or "
            f"digit, and has at most {LONGEST_NAME} characters"
        )


def zero_or_normal(value: float) -> float:
    """Check that a number is 0 or not so small that it only looks as if it were something else."""
    if 0 < value < TINY:
        raise ValueError(f"is {value}: write 0, or at least {TINY}")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
"""Below 1, where nothing would ever change."""
Dropout = Annotated[float, Field(ge=0, le=0.95)]
"""Beyond this hardly anything is left to learn from."""
Positive = Annotated[float, Field(ge=TINY, le=HUGE)]
NonNegative = Annotated[float, Field(ge=0, le=HUGE), AfterValidator(zero_or_normal)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(rising)]
Magnification = Annotated[float, Field(ge=1 / 64, le=64)]
"""Of an image: beyond this a photograph is a few pixels, or a few of its pixels fill everything."""
Magnifications = Annotated[tuple[Magnification, Magnification], AfterValidator(rising)]
Strength = Annotated[float, Field(ge=0, le=10)]
"""Of a change of colours; published recipes use at most 0.5, and from 1 on colours saturate."""
Blur = Annotated[float, Field(ge=0.01, le=128)]
"""Standard deviation in pixels; below this nothing is blurred, and its square underflows."""
Blurs = Annotated[tuple[Blur, Blur], AfterValidator(rising)]
Form = Annotated[float, Field(ge=0.01, le=100)]
"""Height over width of a box; thinner ones have no pixels."""
Forms = Annotated[tuple[Form, Form], AfterValidator(rising)]

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
"""A step of 10 ms, a million times, takes three hours; ten million take a day at least."""
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Images = Annotated[int, Field(ge=1, le=4096)]
"""In a batch."""
Pairs = Annotated[int, Field(ge=0, le=4096, multiple_of=2)]
"""Images in a batch, by twos."""
Processes = Annotated[int, Field(ge=1, le=1024)]
"""Or threads of one."""
Channels = Annotated[int, Field(ge=1, le=4096)]
"""Of a layer; the largest published decoders have 1024."""
Layers = Annotated[int, Field(ge=1, le=64)]
Dilation = Annotated[int, Field(ge=1, le=512)]
"""Of a convolution, cells; beyond the map only its centre counts."""
Size = Annotated[int, Field(ge=8, le=8192)]
"""Height or width, pixels."""

NAME, LONGEST_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", 100
Name = Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)]
"""Becomes a part of paths, whose parts have at most 255 bytes, and a word of a command: none begins with a dash."""
MethodId = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(/[A-Za-z_]\w*)+([@+]\w+)?$", max_length=200)]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1000)]
"""One line; no system takes a path with control characters for granted."""
