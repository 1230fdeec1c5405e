"""The typed form of `datasets/<name>.yaml`, by which a user describes images of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rc2l_bench.config import Model, Share, Size
from rc2l_bench.types import IGNORE

Channel = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]


def _listed(value: Any) -> Any:  # noqa: ANN401 - checked by the type that follows
    return [value] if isinstance(value, str) else value


Patterns = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
"""A folder or a glob, or several. A sample's id is what the last `*` stands for; a folder means `folder/*`."""


class Shares(Model):
    """Parts drawn by hashing (seed, id): only images with a mask are drawn, all others are train."""

    val: Share
    test: Share
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _possible(self) -> Shares:
        if not self.val or self.val + self.test >= 1:
            raise ValueError(f"val must be above 0 and val + test below 1, got {self.val} + {self.test}")
        return self


class Lists(Model):
    """Parts by text files with one id on each line."""

    val: str
    test: str | None = None
    train: str | None = None
    """None = every image that is in no other list."""


class FolderConfig(Model):
    """Images, masks, classes and parts. Paths are relative to the root of the checkout."""

    images: Patterns
    """PNG or JPEG."""
    masks: Patterns
    """PNG."""
    classes: list[str]
    """The index is the label."""
    shares: Shares | None = None
    lists: Lists | None = None
    """Either `shares` or `lists`."""
    colours: list[Colour] | None = None
    """One for each class; None = a palette that colour-blind people can tell apart."""
    masks_hold: Literal["indices", "colours"] = "indices"
    """`indices`: one channel (grey or palette) of class indices and 255; `colours`: the class's colour."""
    ignore: tuple[Channel, ...] = ()
    """Further values of a mask of indices that are ignored like 255, for instance the index of void."""
    ignore_colours: tuple[Colour, ...] = ()
    """Colours of a mask of colours that are ignored."""
    unlabelled: bool = False
    """Whether images without a mask are allowed; they belong to train."""
    canvas: tuple[Size, Size] | None = None
    """Height and width that every image fits into; None = the largest found."""
    licence: str = ""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str]) -> list[str]:
        if not classes:
            raise ValueError("the list is empty: name at least one class")
        if len(classes) > IGNORE:
            raise ValueError(f"{len(classes)} classes are more than the {IGNORE} that a mask of 8 bits can hold")
        for index, name in enumerate(classes):
            if not name.strip() or not name.isprintable():
                raise ValueError(f"class {index} has no readable name: {name!r}")
            if name in classes[:index]:
                raise ValueError(f"'{name}' is there twice")
        return classes

    @model_validator(mode="after")
    def _consistent(self) -> FolderConfig:
        if (self.shares is None) == (self.lists is None):
            raise ValueError("give either shares (val, test, seed) or lists (val, test, train)")
        if self.colours is not None and len(self.colours) != len(self.classes):
            raise ValueError(f"{len(self.colours)} colours for {len(self.classes)} classes: give one for each, or none")
        if self.masks_hold == "colours":
            self._check_colours()
        elif self.ignore_colours:
            raise ValueError("ignore_colours needs `masks_hold: colours`; for indices there is `ignore`")
        elif self.ignore and min(self.ignore) < len(self.classes):
            raise ValueError(f"ignore: {min(self.ignore)} is a class: ignored values come after the last class")
        return self

    def _check_colours(self) -> None:
        if self.colours is None:
            raise ValueError("`masks_hold: colours` needs the colours of the classes")
        if self.ignore:
            raise ValueError("ignore needs `masks_hold: indices`; for colours there is `ignore_colours`")
        every = [*self.colours, *self.ignore_colours]
        for index, colour in enumerate(every):
            if colour in every[:index]:
                raise ValueError(f"the colour {list(colour)} is there twice: masks could not be told apart")
