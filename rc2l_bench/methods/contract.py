"""Define what a method is (networks, and the losses that train them), and load methods by their id."""

from __future__ import annotations

import copy
import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rc2l_bench.config import Model, NonNegative, Protocol, Share, Views
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import check
from rc2l_bench.types import Batch
from rc2l_bench.variants import base_of, method_yaml, read_config

Scored = Literal["student", "teacher", "ensemble"]


class MethodConfig(Model):
    """Numbers that a method chose for itself; a method adds fields, its yaml holds the values."""

    views: Views


class LateConfig(MethodConfig):
    """Numbers of a method whose unlabelled losses begin late, with a network that has learnt something."""

    weight: NonNegative
    """Of all unlabelled losses together; 0 = supervised training."""
    warm_up: Share
    """Share of the budget before the unlabelled losses begin."""

    def only_supervised(self, batch: Batch, progress: float) -> bool:
        """Tell whether a step has no unlabelled loss; the arguments are those of `Method.losses`.

        A method that asks this first skips its passes over the unlabelled images where they would change nothing.
        """
        return not self.weight or not len(batch.weak) or progress < self.warm_up


class Method(nn.Module, ABC):
    """Base of every method.

    All that must survive a restart (teachers, memory banks) is in `state_dict`. A method never calls backward,
    an optimiser, `.cuda()`, print, or a path.

    Random numbers come from torch's default generator (`torch.rand`, dropout, on the batch's device): the trainer seeds
    it from (seed, process, step) before every step, so they replay and a method seeds nothing. Numbers that all
    processes must share come from `processes.rand`. Networks are initialised from the same generator, in `__init__`;
    what a rival of the same form has comes first, so that both start equal.

    Attributes:
        Config: the type of the method's yaml.
        unlabelled: whether `losses` looks at unlabelled images; if not, none are loaded.
        switched_off: numbers of the yaml, by name (`weights.smc`), with which nothing is learnt from unlabelled
            images: training then equals supervised training to the bit.
        student: the network that supervised training has too; a method with several networks says which.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    unlabelled: ClassVar[bool] = True
    switched_off: ClassVar[Mapping[str, float]] = {"weight": 0.0}

    def __init__(self, config: MethodConfig, protocol: Protocol, num_classes: int) -> None:  # noqa: ARG002 - for subclasses
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    @abstractmethod
    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute the weighted losses of a batch; their sum is minimised, their names are columns of history.csv.

        Args:
            batch: see `Batch`.
            progress: share of the budget that is spent, 0 <= progress < 1.

        Returns:
            Scalars by name. The same keys at every step, because history.csv has one head: a loss that is switched off
            is exactly 0.
        """

    def predict(self, image: Tensor) -> Tensor:
        """Compute class logits of images; those of the deployed network, unless a method overrides this.

        Args:
            image: (B, 3, H, W) float, [0, 1]; any height and width.

        Returns:
            (B, K, H, W) float; the softmax over K is the class probability.
        """
        out: Tensor = self.deployed()(image)
        return out

    def pseudo_logits(self, image: Tensor) -> Tensor:
        """Compute class logits like those that stand for labels on unlabelled images; shapes are those of `predict`.

        Only to score them. Those of `predict`, unless a method overrides this: many methods teach themselves.
        """
        return self.predict(image)

    @abstractmethod
    def deployed(self) -> nn.Module:
        """Return the part that `predict` needs: saved as model.safetensors, counted as deployed parameters."""

    @property
    def scored(self) -> Scored:
        """Whose weights `predict` uses; kept with every result, because it is part of the evaluation."""
        return "student"

    def after_step(self) -> None:
        """Update what no gradient moves, such as an EMA teacher; called after every optimiser step."""

    def param_groups(self) -> list[tuple[list[nn.Parameter], bool]]:
        """Group the parameters that are trained by their learning rate.

        Returns:
            Pairs (parameters, is_head), none of them empty: heads learn at lr · head_lr, backbones at lr. Default: what
            stands in a module named `backbone`, and the rest.
        """
        backbone: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                # Dots on both sides, so that a module `my_backbone` is not taken for one.
                (backbone if ".backbone." in f".{name}" else head).append(parameter)
        return [(group, is_head) for group, is_head in ((backbone, False), (head, True)) if group]

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute the same as `losses`: the one callable that wrappers (DDP, precision) see."""
        return self.losses(batch, progress)


class Teacher(nn.Module):
    """Exponential moving average of a student: no gradients, always in eval mode."""

    updates: Tensor

    def __init__(self, student: nn.Module, decay: float, buffers: Literal["average", "copy"]) -> None:
        """Start as a copy of the student.

        Args:
            student: the network to follow.
            decay: weight of the past after warm-up, in [0, 1]; the decay of update t = 0, 1, ... is
                min(decay, t / (t + 1)), so that the teacher is at first the mean of all students so far (U2PL's rule).
            buffers: whether batch-norm statistics are averaged like parameters, or copied.
        """
        super().__init__()
        # Without gradients, so that no optimiser takes these parameters for its own and DDP does not wait for them.
        self.net = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay
        self.buffer_rule = buffers
        # A buffer, because the decay depends on it: a run that continues must not copy the student once more.
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # The same, as the host knows it: the device need not be asked at every step.
        self._known: int | None = None
        forget: Any = self.register_load_state_dict_post_hook
        forget(lambda module, _: setattr(module, "_known", None))

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever the method is told: dropout off, running statistics as averaged."""
        super().train(False)
        # The teacher itself reports the mode that it was told, as every module does; its network stays as it is.
        self.training = mode
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Compute what the averaged network gives for images (B, 3, H, W), without gradients."""
        with torch.no_grad():
            out: Tensor = self.net(image)
        return out

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student; call once after every optimiser step.

        θ' ← α θ' + (1 − α) θ (Tarvainen & Valpola, NeurIPS 2017, equation 1).

        Args:
            student: of the same form as at the start.
        """
        count = int(self.updates) if self._known is None else self._known
        self._known = count + 1
        decay = min(self.decay, count / (count + 1))
        self.updates += 1
        mine = [p.detach() for p in self.net.parameters()]
        theirs = [p.detach() for p in student.parameters()]
        for old, new in zip(self.net.buffers(), student.buffers(), strict=True):
            if self.buffer_rule == "average" and old.is_floating_point():
                mine.append(old)
                theirs.append(new)
            else:
                # With either rule where buffers are counts: integers have no average.
                old.copy_(new)
        # One call for all tensors: on CUDA a few kernels, not one for each of hundreds of parameters.
        torch._foreach_lerp_(mine, theirs, 1.0 - decay)


class TaughtConfig(MethodConfig):
    """Numbers of a method with a teacher."""

    decay: Share
    """Of the teacher, per step; reached gradually, see `Teacher`."""
    predict: Literal["student", "teacher"]
    """The network that is scored."""


class TaughtMethod(Method):
    """Base of methods with a student and its moving average; a subclass makes both."""

    config: TaughtConfig
    student: nn.Module
    teacher: Teacher

    @property
    def scored(self) -> Scored:
        """Student or teacher, as `config.predict` says."""
        return self.config.predict

    def deployed(self) -> nn.Module:
        """Return the student or the teacher, as `config.predict` says."""
        return self.student if self.config.predict == "student" else self.teacher.net

    def pseudo_logits(self, image: Tensor) -> Tensor:
        """Compute the teacher's class logits; see `Method.pseudo_logits`."""
        out: Tensor = self.teacher(image)
        return out

    def after_step(self) -> None:
        """Let the teacher follow the student."""
        self.teacher.update(self.student)


def load_class(method: str) -> type[Method]:
    """Import the one `Method` subclass that the module of an id defines.

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
        # Only a module on the way to the method makes it unknown; a package that the method imports and that is not
        # installed is an error of another kind, whose traceback says where.
        if not name.startswith(error.name or " "):
            raise
        raise UsageError(f"unknown method '{method}': there is no {method}.py at the root of the checkout") from None
    # Defined there, not imported there: a module may well use another one's base class.
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Method) and c.__module__ == name]
    if len(own) != 1:
        raise UsageError(f"{method}.py must define exactly one Method, it defines {[c.__name__ for c in own]}")
    return own[0]


def load_config(method: str) -> MethodConfig:
    """Read the numbers of a method or of a variant from the yaml beside its module, and check them.

    Tuned numbers are not among them; see `rc2l_bench.run.cell`.

    Raises:
        UsageError: there is no such method or variant, or a key or a value is wrong.
    """
    return check_config(method, read_config(method))


def check_config(method: str, config: Any) -> MethodConfig:  # noqa: ANN401 - YAML holds anything
    """Check what was read of a method's yaml.

    Args:
        method: id, with or without a variant.
        config: from `variants.read_config`.

    Returns:
        The typed form.

    Raises:
        UsageError: a key or a value is wrong.
    """
    return check(load_class(method).Config, config, method_yaml(method))


def build(method: str, config: MethodConfig, protocol: Protocol, num_classes: int) -> Method:
    """Build a method with freshly initialised networks, drawn from torch's global generator.

    Args:
        method: id, with or without a variant.
        config: its numbers, of the type `Config` of its class.
        protocol: network, crop and the rest.
        num_classes: K.
    """
    return load_class(method)(config, protocol, num_classes)
