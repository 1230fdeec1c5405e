"""What is said of a params.yaml that is refused, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import Params, load
from rc2l_bench.errors import UsageError


def refused(folder: Path, **changes) -> str:
    """What is said of the tiny params with changes, without the name of the file."""
    tiny_data.write_yaml(folder / "params.yaml", tiny_data.params(**changes))
    with pytest.raises(UsageError) as caught:
        load(Params, folder / "params.yaml")
    return str(caught.value).removeprefix(f"{folder / 'params.yaml'}: ")


def refused_protocol(folder: Path, **changes) -> str:
    """The same for changes of its protocol."""
    return refused(folder, protocol={"default": changes}).removeprefix("protocol.default.")
