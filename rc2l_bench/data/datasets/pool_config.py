"""The typed form of `pool` in `datasets/<name>.yaml`: images without labels that are not copied."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rc2l_bench.config import Count, Model


def _listed(value: Any) -> Any:  # noqa: ANN401 - checked by the type that follows
    return [value] if isinstance(value, str) else value


Places = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
"""Folders of images, tars (`*` and `{000..123}` stand for many), folders of shards with an index; on the disk, or far
away: http(s) and whatever fsspec reads. `${NAME}` in an address is what the environment variable holds."""


class StreamConfig(Model):
    """Tars that are read in whatever order they come, by the `webdataset` library: a run on them cannot be replayed."""

    stream: Places
    """Tars, on the disk or far away."""
    shuffle: Count = 1000
    """Images that the shuffle buffer of each loader process holds."""


PoolConfig = Annotated[Places | StreamConfig, BeforeValidator(_listed)]
