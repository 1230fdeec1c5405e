"""Semi-supervised semantic segmentation, compared fairly."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rc2l_bench.deployment.loading import load_run as load_run

__version__ = "0.4.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any attribute
    """Import `load_run` when it is asked for: the package itself starts without torch."""
    if name == "load_run":
        return import_module("rc2l_bench.deployment.loading").load_run
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
