"""A trained network as one file that runs without this suite: pre-processing inside, pictures of any size."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rc2l_bench.config import Protocol
from rc2l_bench.errors import BenchError, RefusedError, UsageError, refusals

Format = Literal["onnx", "torch"]
Pixels = NDArray[np.uint8]
Runner = Callable[[Pixels], tuple[NDArray[np.float32], Pixels]]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
INPUT, OUTPUTS = "image", ("logits", "classes")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
MOST_ONNX = 2_000_000_000
"""Bytes of weights that one ONNX file holds: protobuf's limit of 2 GiB, with room for the graph."""
TOLERANCE = 1e-4
"""Largest difference of a probability between the file and the network that it was made of."""
_MISSING = re.compile(r"No ONNX function found for <OpOverload\(op='(?P<name>[^']+)'")


class ExportedNetwork(nn.Module):
    """A network that takes pictures as they are read and gives logits and classes of every pixel."""

    def __init__(self, network: nn.Module, protocol: Protocol) -> None:
        """Put the evaluation of a run around its network.

        Args:
            network: images (B, 3, H, W) in [0, 1] -> class logits (B, K, H, W); on the CPU, in eval mode.
            protocol: of the run. Scales and mirror images of its evaluation take part. Sliding windows do not: how many
                there are depends on the picture, so whoever runs the file cuts them.
        """
        super().__init__()
        self.network = network.requires_grad_(False)
        self.evaluation = protocol.eval
        self.image_scale = protocol.image_scale

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, H, W, 3) uint8 -> class logits (B, K, H, W) float32, classes (B, H, W) uint8.

        The same as `run.evaluate.predict_logits` of whole images, in terms that a graph of any size can hold.
        """
        pixels = image.permute(0, 3, 1, 2).float() / 255
        scales = [scale * self.image_scale for scale in self.evaluation.scales]
        views = [logits for scale in scales for logits in self._see(pixels, scale)]
        logits = views[0]
        if len(views) > 1:
            logits = torch.stack([view.softmax(1) for view in views]).mean(0).clamp(min=1e-12).log()
        return logits, logits.max(1).indices.to(torch.uint8)

    def _see(self, pixels: Tensor, scale: float) -> Iterator[Tensor]:
        """Logits of pictures at a scale, and of their mirror images where the evaluation has them."""
        size = pixels.shape[-2:]
        small = pixels if scale == 1 else rescale(pixels, [scaled(length, scale) for length in size])
        for flip in (False, True)[: 1 + self.evaluation.flip]:
            logits = self.network(small.flip(-1) if flip else small).float()
            logits = logits.flip(-1) if flip else logits
            yield logits if scale == 1 else rescale(logits, size)


def rescale(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate as `run.evaluate.rescale` does, without a look at whether the size is another one."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def scaled(length: int, scale: float) -> int:
    """Give `round(length * scale)`, halves to even, in whole numbers: a traced length can be stored with nothing else.

    Args:
        length: pixels.
        scale: of whole thousandths.
    """
    part = Fraction(scale).limit_denominator(1000)
    twice = 2 * part.denominator
    doubled = 2 * part.numerator * length + part.denominator
    half = (twice - 1 - doubled % twice) // (twice - 1)  # 1 where the exact value lies between two whole numbers
    up = doubled // twice
    return up - half * (up % 2)


def least_size(protocol: Protocol) -> int:
    """Height and width that a picture must at least have, pixels: two cells of the coarsest map.

    The traced graph takes maps of one row for another case than larger ones.
    """
    smallest = min(protocol.eval.scales) * protocol.image_scale
    return math.ceil((protocol.net.output_stride + 2) / smallest)


def require_packages(kind: Format) -> None:
    """Make sure that the packages of a format are installed, before anything is loaded.

    Raises:
        UsageError: one is missing.
    """
    missing = [name for name in ONNX_PACKAGES if kind == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs {' and '.join(missing)}: pip install 'rc2l-bench[onnx]'")


def trace(network: ExportedNetwork, least: int) -> ExportedProgram:
    """Trace a network for any number of pictures of any size.

    Args:
        network: on the CPU.
        least: see `least_size`.

    Raises:
        BenchError: its code depends on values, so that it is no graph.
    """
    # Odd and no two alike: what holds by chance, a side that is a multiple of the stride, would become a rule.
    base = 32 * math.ceil(least / 32)
    example = torch.zeros(2, base + 13, base + 55, 3, dtype=torch.uint8)
    free = {INPUT: dict.fromkeys((0, 1, 2), Dim.DYNAMIC)}
    with _refusing("torch"), torch.no_grad():
        return torch.export.export(network.eval(), (example,), dynamic_shapes=free, strict=False)


def write_torch(program: ExportedProgram) -> bytes:
    """Serialise a traced network for `torch.export.load`."""
    buffer = io.BytesIO()
    with _refusing("torch"):
        _replace_ceilings(program)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _replace_ceilings(program: ExportedProgram) -> None:
    """Write ⌈a / b⌉ of lengths as −⌊−a / b⌋, because torch stores a graph with the latter and not with the former."""
    graph = program.graph
    for node in [node for node in graph.nodes if node.target is math.ceil]:
        quotient = node.args[0]
        if quotient.target is not operator.truediv or not float(quotient.args[1]).is_integer():
            continue
        length, step = quotient.args[0], int(quotient.args[1])
        length = length.args[0] if length.target is torch.sym_float else length
        value = length.meta["val"]
        with graph.inserting_before(node):
            below = graph.call_function(operator.neg, (length,))
            floor = graph.call_function(operator.floordiv, (below, step))
            ceiling = graph.call_function(operator.neg, (floor,))
        below.meta["val"], floor.meta["val"], ceiling.meta["val"] = -value, -value // step, -(-value // step)
        node.replace_all_uses_with(ceiling)
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def write_onnx(program: ExportedProgram) -> bytes:
    """Translate a traced network to ONNX.

    Raises:
        UsageError: its weights are too large for one file.
        BenchError: an operator has no counterpart in ONNX.
    """
    size = sum(x.numel() * x.element_size() for x in program.state_dict.values())
    if size > MOST_ONNX:
        raise UsageError(f"--format onnx: {size:,} bytes of weights do not fit one ONNX file: take --format torch")
    with _refusing("onnx"):
        found = torch.onnx.export(program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(OUTPUTS))
        assert found is not None  # without a file name the program itself comes back
        data: bytes = found.model_proto.SerializeToString()
    return data


WRITERS: dict[Format, Callable[[ExportedProgram], bytes]] = {"onnx": write_onnx, "torch": write_torch}


def open_onnx(data: bytes) -> Runner:
    """Open an ONNX file as whoever gets it will."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(images: Pixels) -> tuple[NDArray[np.float32], Pixels]:
        logits, classes = session.run(list(OUTPUTS), {INPUT: images})
        return logits, classes

    return run


def open_torch(data: bytes) -> Runner:
    """Open a .pt2 file as whoever gets it will."""
    # Without its guards, which hold for the picture that was traced: of memory layout, of a margin that may be 0.
    network = torch.export.load(io.BytesIO(data)).module(check_guards=False)

    def run(images: Pixels) -> tuple[NDArray[np.float32], Pixels]:
        with torch.no_grad():
            logits, classes = network(torch.from_numpy(images))
        return logits.numpy(), classes.numpy()

    return run


OPENERS: dict[Format, Callable[[bytes], Runner]] = {"onnx": open_onnx, "torch": open_torch}


def compare(network: ExportedNetwork, run: Runner, sizes: list[tuple[int, int]]) -> float:
    """Run a file and the network that it was made of on made-up pictures.

    Args:
        network: the original.
        run: the file.
        sizes: height and width; the first picture comes alone, the others by twos.

    Returns:
        The largest difference of a probability.

    Raises:
        BenchError: it is larger than `TOLERANCE`, or the file fails.
    """
    largest = 0.0
    for number, size in enumerate(sizes):
        images = np.random.default_rng(number).integers(0, 256, (min(2, number + 1), *size, 3), np.uint8)
        with _refusing("run"), torch.no_grad():
            found = torch.from_numpy(run(images)[0]).softmax(1)
            expected = network(torch.from_numpy(images))[0].softmax(1)
        largest = max(largest, float((found - expected).abs().max()))
    if not largest <= TOLERANCE:  # NaN, too
        raise BenchError(f"the exported file gives probabilities that differ by {largest:.2g}: it was not written")
    return largest


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Tell in one line what cannot be exported, and keep the exporters' own remarks to themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with refusals(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RefusedError as error:
        hint = ": try --format torch" if what == "onnx" else ""
        raise BenchError(f"this network cannot be exported ({what}): {_reason(error)}{hint}") from None
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first cause in one line; of a missing operator its name."""
    while error.__cause__ is not None:
        error = error.__cause__
    if missing := _MISSING.search(str(error)):
        return f"ONNX has no operator for {missing['name']}"
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line[:200]
