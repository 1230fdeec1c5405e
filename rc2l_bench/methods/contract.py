"""What a method is: networks, and the losses that train them."""

from __future__ import annotations

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from rc2l_bench.config import Model, NonNegative, Protocol, Share, Views
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import check
from rc2l_bench.types import Batch
from rc2l_bench.variants import base_of, method_yaml, read_config

Scored = Literal["student", "teacher", "ensemble"]


class MethodConfig(Model):
    """The numbers that a method chose for itself; a method adds fields, its yaml holds the values."""

    views: Views


class LateConfig(MethodConfig):
    """The numbers of a method whose unlabelled losses begin late, when the network already knows something."""

    weight: NonNegative
    """Of all unlabelled losses together; 0 = supervised training."""
    warm_up: Share
    """Share of the budget before the unlabelled losses begin."""

    def only_supervised(self, batch: Batch, progress: float) -> bool:
        """Whether a step has no unlabelled loss: its arguments are those of `Method.losses`."""
        return not self.weight or not len(batch.weak) or progress < self.warm_up


class Method(nn.Module, ABC):
    """Base of every method.

    All that must survive a restart (teachers, memory banks) is in `state_dict`. A method never calls backward,
    an optimiser, `.cuda()`, print, or a path.

    Attributes:
        Config: the type of the method's yaml.
        unlabelled: whether `losses` looks at unlabelled images; if not, none are loaded.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    unlabelled: ClassVar[bool] = True

    def __init__(self, config: MethodConfig, protocol: Protocol, num_classes: int) -> None:  # noqa: ARG002 - for subclasses
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted losses of a batch; their sum is minimised and their names are columns of history.csv.

        Args:
            batch: see `Batch`.
            progress: share of the budget that is spent, 0 <= progress < 1.

        Returns:
            Scalars. The same keys at every step (a loss that is switched off is exactly 0).
        """

    def predict(self, image: Tensor) -> Tensor:
        """Class logits of images; what the deployed network gives, unless a method does it another way.

        Args:
            image: (B, 3, H, W) float, [0, 1]; any height and width.

        Returns:
            (B, K, H, W) float; the softmax over K is the class probability.
        """
        out: Tensor = self.deployed()(image)
        return out

    @abstractmethod
    def deployed(self) -> nn.Module:
        """The part that `predict` needs: what is saved as model.safetensors, and counted as deployed parameters."""

    @property
    def scored(self) -> Scored:
        """Whose weights `predict` uses; kept with every result, because it is a part of how one evaluates."""
        return "student"

    def after_step(self) -> None:
        """Called after every optimiser step: EMA teachers and the like."""

    def param_groups(self) -> list[tuple[list[nn.Parameter], bool]]:
        """The parameters that are trained, in groups of one learning rate.

        Returns:
            Pairs (parameters, is_head): heads learn at lr · head_lr, backbones at lr. Default: what stands in a
            module named `backbone`, and the rest.
        """
        backbone: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                (backbone if ".backbone." in f".{name}" else head).append(parameter)
        return [(group, is_head) for group, is_head in ((backbone, False), (head, True)) if group]

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The same as `losses`; the one callable that wrappers (DDP, precision) see."""
        return self.losses(batch, progress)


class Teacher(nn.Module):
    """Exponential moving average of a student: no gradients, always in eval mode."""

    updates: Tensor

    def __init__(self, student: nn.Module, decay: float, buffers: Literal["average", "copy"]) -> None:
        """Starts as a copy of the student.

        Args:
            student: the network to follow.
            decay: weight of the past after warm-up; the decay of update t = 0, 1, ... is
                min(decay, t / (t + 1)), so that the first updates copy the student (U2PL's rule).
            buffers: whether batch-norm statistics are averaged like parameters, or copied.
        """
        super().__init__()
        self.net = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay
        self.buffer_rule = buffers
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode, whatever the method is told."""
        super().train(False)
        self.training = mode
        return self

    def forward(self, image: Tensor) -> Tensor:
        """What the averaged network gives for images (B, 3, H, W), without gradients."""
        with torch.no_grad():
            out: Tensor = self.net(image)
        return out

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Moves towards the student; call once after every optimiser step."""
        count = int(self.updates)
        decay = min(self.decay, count / (count + 1))
        self.updates += 1
        mine = [p.detach() for p in self.net.parameters()]
        theirs = [p.detach() for p in student.parameters()]
        for old, new in zip(self.net.buffers(), student.buffers(), strict=True):
            if self.buffer_rule == "average" and old.is_floating_point():
                mine.append(old)
                theirs.append(new)
            else:
                old.copy_(new)
        torch._foreach_lerp_(mine, theirs, 1.0 - decay)


class TaughtConfig(MethodConfig):
    """The numbers of a method with a teacher."""

    decay: Share
    """Of the teacher, per step; reached gradually, see `Teacher`."""
    predict: Literal["student", "teacher"]
    """The network that is scored."""


class TaughtMethod(Method):
    """A method with a student and its moving average; a subclass makes both."""

    config: TaughtConfig
    student: nn.Module
    teacher: Teacher

    @property
    def scored(self) -> Scored:
        """As `predict` says."""
        return self.config.predict

    def deployed(self) -> nn.Module:
        """The student or the teacher."""
        return self.student if self.config.predict == "student" else self.teacher.net

    def after_step(self) -> None:
        """The teacher follows."""
        self.teacher.update(self.student)


def load_class(method: str) -> type[Method]:
    """The one `Method` subclass that the module of an id defines.

    Args:
        method: `baselines/cps` is the module `baselines.cps`, and so is its variant `baselines/cps@plain`.

    Raises:
        UsageError: there is no such module, or it defines no or several methods.
    """
    method = base_of(method)
    name = method.replace("/", ".")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or " "):
            raise
        raise UsageError(f"unknown method '{method}': there is no {method}.py at the root of the checkout") from None
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Method) and c.__module__ == name]
    if len(own) != 1:
        raise UsageError(f"{method}.py must define exactly one Method, it defines {[c.__name__ for c in own]}")
    return own[0]


def load_config(method: str) -> MethodConfig:
    """The numbers of a method, or of a variant: read from the yaml beside its module, and checked."""
    cls = load_class(method)
    return check(cls.Config, read_config(method), method_yaml(method))


def build(method: str, config: MethodConfig, protocol: Protocol, num_classes: int) -> Method:
    """A method with freshly initialised networks, drawn from torch's global generator."""
    return load_class(method)(config, protocol, num_classes)
