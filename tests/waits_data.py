"""Counts where the host of an accelerator would wait for it, on the CPU: by what is called, not by time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from method_data import ROOT
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rc2l_bench.losses.matching import Fetch

_ATEN = torch.ops.aten
PLACES = {_ATEN.nonzero.default, _ATEN.masked_select.default, _ATEN._unique2.default}
INDEXING = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default}
OWN = tuple(str(ROOT / folder) for folder in ("rc2l_bench", "baselines"))
FETCHES, SENDS = {"cpu", "tolist"}, {"to", "tensor", "as_tensor"}


class _Operations(TorchDispatchMode):
    """Sees the backward pass, too."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ATEN._local_scalar_dense.default:
            self.found["number"] += 1
        elif func in PLACES or (func in INDEXING and any(x is not None and x.dtype == torch.bool for x in args[1])):
            self.found["places"] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Sees copies from and to the device, which are none on the CPU."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        caller = sys._getframe(1).f_code
        # Torch moves tensors to where they are; a `Fetch` is waited for when it says so, which `count_fetches` sees.
        if not caller.co_filename.startswith(OWN) or caller is Fetch.__init__.__code__:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        device = kwargs.get("device") or next((x for x in args if isinstance(x, torch.device)), None)
        if name in FETCHES or (name == "to" and any(isinstance(x, str) and x == "cpu" for x in args)):
            self.found["fetch"] += 1
        elif device is not None and name in SENDS and not kwargs.get("non_blocking", False):
            self.found["send"] += 1
        return func(*args, **kwargs)


class Waits:
    """Context that counts the waits of an accelerator's host.

    Attributes:
        found: `number` (a number is read), `places` (a mask is turned into places), `fetch` (a tensor is copied to the
            host, and waited for) and `send` (one is copied to the device, and waited for).
    """

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._contexts = _Calls(self.found), _Operations(self.found), count_fetches(self.found)

    def __enter__(self) -> Counter[str]:
        for context in self._contexts:
            context.__enter__()
        return self.found

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


@contextmanager
def count_fetches(found: Counter[str]) -> Iterator[None]:
    """Count how often a host waits for a `Fetch`: an event, of which neither torch's warnings nor operations tell."""
    wait = Fetch.wait

    def counted(fetch: Fetch) -> torch.Tensor:
        found["fetch"] += 1
        return wait(fetch)

    with patch.object(Fetch, "wait", counted):
        yield
