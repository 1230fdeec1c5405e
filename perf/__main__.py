"""Everything that `make perf` measures, one table; `scaling` (long) and `grids` (simulated) have their own commands."""

from __future__ import annotations

import importlib
import pkgutil

import perf


def main() -> None:
    """Runs every module of this folder."""
    rows: list[perf.Row] = []
    for module in pkgutil.iter_modules(perf.__path__):
        if module.name not in ("__main__", "grids", "released", "scaling"):
            rows += importlib.import_module(f"perf.{module.name}").measure()
    perf.show(rows)


if __name__ == "__main__":
    main()
