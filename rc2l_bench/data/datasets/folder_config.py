"""The typed form of `datasets/<name>.yaml`, by which a user describes images of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rc2l_bench.config import Model, Share, Size
from rc2l_bench.data.datasets.pool_config import PoolConfig
from rc2l_bench.types import IGNORE

Channel = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]


def _listed(value: Any) -> Any:  # noqa: ANN401 - checked by the type that follows
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(_listed)]
Patterns = Annotated[Paths, Field(min_length=1)]
"""A folder or a glob, or several, in which only `*` and `**` stand for anything. A folder means `folder/*`."""


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
    """Parts by text files with one image on each line."""

    val: str
    test: str | None = None
    train: str | None = None
    """None = every image that is in no other list."""


class PartFolders(Model):
    """Parts by the folders that images lie in, at any depth."""

    val: Patterns
    test: Patterns | None = None
    train: Patterns | None = None
    """None = every image that is in no other folder."""


class FolderConfig(Model):
    """Images, masks, classes and parts. Paths are relative to the root of the checkout; `~` is the home folder."""

    images: Patterns
    """PNG or JPEG. What matches `masks` too is no image."""
    masks: Patterns
    """PNG."""
    exclude: Paths | None = None
    """Files that are neither; an empty list says that there are none, where a name looks like that of a mask."""
    ids: Literal["name", "path"] = "name"
    """What the id of a sample is: what the last `*` stands for, or what all of them stand for, with `/` between."""
    classes: list[str] = Field(default_factory=list)
    """The index is the label. May be left out where `values` names the classes."""
    values: dict[Channel, str] = Field(default_factory=dict)
    """Mask value -> class, where the values are not the indices; several values may be one class."""
    reduce_zero_label: bool = False
    """Whether 0 is ignored and 1, 2, … are the classes (as ADE20K's masks have it, and mmsegmentation calls it)."""
    ignore: tuple[Channel, ...] | Literal["others"] = ()
    """Further values of a mask of indices that are ignored like 255; `others` = all that no class has."""
    shares: Shares | None = None
    lists: Lists | None = None
    folders: PartFolders | None = None
    """One of `shares`, `lists` and `folders`."""
    colours: list[Colour] | None = None
    """One for each class; None = a palette that colour-blind people can tell apart."""
    masks_hold: Literal["indices", "colours"] = "indices"
    """`indices`: class indices and 255 (one channel, a palette, or equal channels); `colours`: the class's colour."""
    ignore_colours: tuple[Colour, ...] = ()
    """Colours of a mask of colours that are ignored."""
    tolerance: Annotated[int, Field(ge=0, le=127)] = 0
    """How far each channel of a mask of colours may be from its class's colour, as after resizing or lossy storage."""
    unlabelled: bool = False
    """Whether images without a mask are allowed; they belong to train."""
    rare_classes: list[str] = Field(default_factory=list)
    """Classes that train or val may have no pixel of; test may lack any."""
    duplicates: Literal["refuse", "drop"] = "refuse"
    """What to do with images of the same bytes: refuse them in two parts, or keep one of each."""
    exif: Literal["apply", "ignore"] | None = None
    """Whether masks lie on images as viewers show them, or on the stored pixels; None = such images are refused."""
    pool: PoolConfig | None = None
    """More unlabelled images, for training only, which are not copied."""
    canvas: tuple[Size, Size] | None = None
    """Height and width that every image fits into; None = the largest found."""
    licence: str = ""

    @field_validator("classes")
    @classmethod
    def _readable(cls, classes: list[str]) -> list[str]:
        for index, name in enumerate(classes):
            if not name.strip() or not name.isprintable():
                raise ValueError(f"class {index} has no readable name: {name!r}")
            if name in classes[:index]:
                raise ValueError(f"'{name}' is there twice")
        return classes

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of their indices."""
        return tuple(self.classes or dict.fromkeys(self.values.values()))

    @model_validator(mode="after")
    def _consistent(self) -> FolderConfig:
        if sum(way is not None for way in (self.shares, self.lists, self.folders)) != 1:
            raise ValueError("give either shares (val, test, seed), lists, or folders (both val, test, train)")
        self._check_classes()
        if self.masks_hold == "colours":
            self._check_colours()
        else:
            self._check_values()
        return self

    def _check_classes(self) -> None:
        if not self.names:
            raise ValueError("classes: the list is empty: name the classes, or give values with their names")
        if len(self.names) == 1:
            raise ValueError(f"classes: '{self.names[0]}' alone leaves nothing to tell apart: name the background too")
        if len(self.names) > IGNORE:
            raise ValueError(f"classes: {len(self.names)} are more than the {IGNORE} that a mask of 8 bits can hold")
        if self.colours is not None and len(self.colours) != len(self.names):
            raise ValueError(f"{len(self.colours)} colours for {len(self.names)} classes: give one for each, or none")
        for key, given in (("values", self.values.values()), ("rare_classes", self.rare_classes)):
            if strange := [name for name in given if name not in self.names]:
                raise ValueError(f"{key}: '{strange[0]}' is none of the classes")

    def _check_values(self) -> None:
        """Of masks of indices."""
        if self.ignore_colours or self.tolerance:
            raise ValueError("ignore_colours and tolerance need `masks_hold: colours`; for indices there is `ignore`")
        if self.values and self.reduce_zero_label:
            raise ValueError("give either values or reduce_zero_label")
        if bare := [name for name in self.names if self.values and name not in self.values.values()]:
            raise ValueError(f"values: no value stands for '{bare[0]}'")
        if self.ignore == "others":
            return
        first = int(self.reduce_zero_label)
        taken = self.values or range(first, first + len(self.names))
        if both := [value for value in self.ignore if value in taken]:
            raise ValueError(f"ignore: {both[0]} is a class")

    def _check_colours(self) -> None:
        if self.colours is None:
            raise ValueError("`masks_hold: colours` needs the colours of the classes")
        if self.ignore or self.values or self.reduce_zero_label:
            raise ValueError(
                "ignore, values and reduce_zero_label need `masks_hold: indices`; for colours: `ignore_colours`"
            )
        every = [*self.colours, *self.ignore_colours]
        for index, colour in enumerate(every):
            for other in every[:index]:
                apart = max(abs(one - two) for one, two in zip(colour, other, strict=True))
                if not apart:
                    raise ValueError(f"the colour {list(colour)} is there twice: masks could not be told apart")
                if apart <= 2 * self.tolerance:
                    raise ValueError(
                        f"tolerance: {self.tolerance} is too much for {list(other)} and {list(colour)}, "
                        f"which are {apart} apart: at most {(apart - 1) // 2}"
                    )
