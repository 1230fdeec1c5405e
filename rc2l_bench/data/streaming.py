"""Unlabelled images from tars that are read one after the other, by the `webdataset` library: no index, no exact order.

For somebody else's tars that are too many to be listed, or of which nobody knows how many images they hold. Tars are
dealt to processes and their loader processes, and what comes out of them is shuffled in a buffer. Seeds are derived,
but which images make a batch depends on how many processes read, and a run that goes on after a break gets others than
it would have without one.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from rc2l_bench.data.addresses import is_remote, list_tars, without_secrets
from rc2l_bench.data.datasets.pool_config import StreamConfig
from rc2l_bench.data.decode import Pixels, decode_image
from rc2l_bench.data.geometry import Geometry, Window, cut
from rc2l_bench.data.remote import COPIES
from rc2l_bench.data.scan import IMAGES
from rc2l_bench.draws import derive
from rc2l_bench.errors import BenchError, UsageError, one_line

Decoded = tuple[str, Pixels]
"""Id and image (H, W, 3)."""
_MOST_BAD = 1000
"""Images in a row that cannot be decoded: then these are no images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStream:
    """Where streamed images come from.

    Attributes:
        tars: paths and addresses.
        shuffle: images in the buffer of each loader process.
        seed: of the cell.
        start: step that a run begins or goes on with.
        rank: number of this process.
        world: number of processes.
        room: bytes of copies of tars from far away that may be kept.
        known: sha256 of images that are left out, because they are labelled or scored.
    """

    tars: tuple[str, ...]
    shuffle: int
    seed: int
    start: int
    rank: int
    world: int
    room: int
    known: frozenset[bytes]

    @property
    def name(self) -> str:
        """The first tar, for messages."""
        return without_secrets(self.tars[0])

    def readers(self, workers: int) -> int:
        """Loader processes that all have a tar to read."""
        return min(workers, len(self.tars) // self.world)


def open_stream(
    config: StreamConfig, geometry: Geometry, start: int, room: int, known: frozenset[bytes]
) -> ImageStream:
    """Find the tars of a stream.

    Args:
        config: as it is written down.
        geometry: knows the seed, this process and their number.
        start: see `ImageStream`.
        room: see `ImageStream`.
        known: see `ImageStream`.

    Raises:
        UsageError: there are none, or fewer than processes.
    """
    tars = tuple(itertools.chain.from_iterable(map(list_tars, config.stream)))
    if len(tars) < geometry.world:
        raise UsageError(f"pool: {len(tars)} tars cannot be dealt to {geometry.world} processes: use fewer devices")
    return ImageStream(
        tars=tars, shuffle=config.shuffle, seed=geometry.seed, start=start,
        rank=geometry.rank, world=geometry.world, room=room, known=known,
    )  # fmt: skip


class StreamReader(IterableDataset["list[Decoded] | Exception"]):
    """Gives batches of decoded images, endlessly, in the process that iterates over it."""

    def __init__(self, stream: ImageStream, share: int) -> None:
        """Say how many images make this process's share of a batch."""
        self._stream, self._share = stream, share

    def __iter__(self) -> Iterator[list[Decoded] | Exception]:
        images = self._images()
        try:
            while True:
                yield list(itertools.islice(images, self._share))
        except (BenchError, OSError) as error:
            yield error  # raised where it is taken: torch adds a worker's traceback to what is raised here

    def _images(self) -> Iterator[Decoded]:
        """All images, pass after pass."""
        info, bad = get_worker_info(), 0
        own = f"{self._stream.rank}/{info.id if info else 0}"
        for number in itertools.count():
            seed = derive(self._stream.seed, f"stream/{self._stream.start}/{own}", number)
            found = 0
            for sample in _one_line(open_pipeline(self._stream, seed), self._stream.name):
                data = _image_of(sample)
                if hashlib.sha256(data).digest() in self._stream.known:
                    continue
                image = _decode(data)
                found, bad = found + (image is not None), 0 if image is not None else bad + 1
                if bad > _MOST_BAD:
                    raise BenchError(f"{self._stream.name}: {bad} samples in a row hold no image that can be decoded")
                if image is not None:
                    yield sample["__key__"], image
            if not found:
                raise BenchError(f"{self._stream.name}: there is no image (jpg, jpeg, png) in these tars")


def open_pipeline(stream: ImageStream, seed: int) -> Iterable[dict[str, Any]]:
    """Begin a pass over the tars of this process, as the `webdataset` library reads them."""
    import webdataset
    from webdataset.cache import FileCache, StreamingOpen
    from webdataset.gopen import gopen_schemes  # `webdataset.gopen` is the function of that name

    for scheme in {tar.partition("://")[0] for tar in stream.tars if is_remote(tar)}:
        # The library's own ways are programs that must be installed, and that get the whole address to see.
        gopen_schemes[scheme] = _open
    cache = _cache_of(stream)
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
    pipeline = webdataset.WebDataset(
        list(stream.tars),
        shardshuffle=len(stream.tars),
        seed=seed,
        nodesplitter=_Deal(stream.rank, stream.world),
        cache_dir=str(cache) if cache else None,
        cache_size=stream.room,
        select_files=_is_image,
        empty_check=False,
    )
    # The library opens tars and leaves it to the garbage to close them.
    openers = (StreamingOpen, FileCache)
    place = next(place for place, stage in enumerate(pipeline.pipeline) if isinstance(stage, openers))
    pipeline.pipeline.insert(place + 1, _close_after)
    shuffled: Iterable[dict[str, Any]] = pipeline.shuffle(stream.shuffle, seed=seed)
    return shuffled


def stream_windows(
    batches: Iterator[list[Decoded]], geometry: Geometry, start: int, stop: int
) -> Iterator[list[Window]]:
    """Cut the windows of the steps start..stop-1 out of streamed images; frames are drawn as for any other images."""
    for step, images in zip(range(start, stop), batches, strict=False):
        size = torch.tensor(np.array([image.shape[:2] for _, image in images], np.int64))
        frames = geometry.frames("unlabelled", step, size)
        yield [cut(name, frame, image, None) for frame, (name, image) in zip(frames, images, strict=True)]


class _Deal:
    """Gives every process its tars."""

    def __init__(self, rank: int, world: int) -> None:
        self._rank, self._world = rank, world

    def __call__(self, tars: Iterator[Any]) -> Iterator[Any]:
        return itertools.islice(tars, self._rank, None, self._world)


def _close_after(sources: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Passes open tars on, and closes each when the next one is asked for."""
    for source in sources:
        with source["stream"]:
            yield source


def _open(url: str, mode: str = "rb", bufsize: int = 0, **_: Any) -> Any:  # noqa: ANN401, ARG001 - what webdataset calls
    from rc2l_bench.data.far_files import open_far  # only where the network is wanted

    return open_far(url)


def _is_image(name: str) -> bool:
    base = name.rpartition("/")[2]
    return f".{base.partition('.')[2].lower()}" in IMAGES


def _image_of(sample: dict[str, Any]) -> bytes:
    """The image of a sample, of the first kind that it has; empty without any."""
    return next((sample[kind[1:]] for kind in IMAGES if kind[1:] in sample), b"")


def _decode(data: bytes) -> Pixels | None:
    """An image; None where it cannot be decoded, as some of a million pictures from the web cannot."""
    try:
        return decode_image(data)
    except BenchError:
        return None


def _one_line(pipeline: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Tell whatever the library raises in one line without secrets; its own texts hold whole addresses."""
    try:
        yield from pipeline
    except BenchError as error:
        raise BenchError(error.args[0]) from None  # the library adds the address to the arguments
    except Exception as error:
        text = without_secrets(one_line(error))[:160]
        raise BenchError(f"{name}: {type(error).__name__}: {text}") from None


def _cache_of(stream: ImageStream) -> Path | None:
    """Where whole tars are kept; nowhere if they are near, or if two have one name, which the library would confuse."""
    names = {tar.partition("?")[0].rpartition("/")[2] for tar in stream.tars}
    if not stream.room or not all(map(is_remote, stream.tars)) or len(names) < len(stream.tars):
        return None
    key = hashlib.sha256("\n".join(stream.tars).encode()).hexdigest()
    return COPIES / f"stream-{key[:16]}"
