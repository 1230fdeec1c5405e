"""What only a GPU can tell. Everything here is skipped where there is none; `make gpu` leaves a file behind."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import method_data
import pytest
import torch

from rc2l_bench.files import write_atomically
from rc2l_bench.run.cell import versions
from rc2l_bench.run.hardware import commit, hardware

HERE = Path(__file__).parent
EVIDENCE = method_data.ROOT / "reports/evidence/hardware"
FOUND: dict[str, Any] = {}
"""What the checks measured, by name."""
OUTCOMES: dict[str, str] = {}
"""Whether they passed, by test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cuda)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="there is no GPU here: `make gpu` on a machine that has one"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "tests/cuda" in report.nodeid and (report.when == "call" or report.outcome != "passed"):
        OUTCOMES[report.nodeid.removeprefix("tests/cuda/")] = report.outcome


def pytest_sessionfinish() -> None:
    """Write down what was found, where a GPU was at hand."""
    if not torch.cuda.is_available() or not OUTCOMES:
        return
    card = torch.cuda.get_device_name()
    facts = {
        "card": card, "memory_mb": torch.cuda.get_device_properties(0).total_memory >> 20, "commit": commit(),
        "hardware": hardware(torch.device("cuda")), "versions": versions(),
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "command": sys.argv[1:],
        "found": FOUND, "outcomes": dict(sorted(OUTCOMES.items())),
    }  # fmt: skip
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    write_atomically(EVIDENCE / f"{name}.json", (json.dumps(facts, indent=2) + "\n").encode())


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture(scope="session")
def found() -> dict[str, Any]:
    return FOUND


@pytest.fixture(autouse=True)
def on_the_device(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Methods and batches of `method_data` are made on the GPU, with deterministic kernels where there are any."""
    monkeypatch.setattr(method_data, "DEVICE", device)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.empty_cache()
