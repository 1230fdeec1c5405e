"""The table of `rc2l-bench run --dry-run`."""

from __future__ import annotations

import math

import pytest
import tiny_data

from rc2l_bench.cli import forecast as command
from rc2l_bench.config import Params, load
from rc2l_bench.run import forecast
from rc2l_bench.run.forecast import Forecast

PARAMS = load(Params, tiny_data.ROOT / "params.yaml")


def cell(state: str, seed: int, seconds: float = 0.0, reasons: tuple[str, ...] = ()) -> Forecast:
    item = {"dataset": "shapes", "split": "1_4", "method": "baselines/cps", "seed": str(seed)}
    return Forecast(item=item, state=state, reasons=list(reasons), seconds=seconds, memory_mb=512.4)


def shown(monkeypatch, capsys, found: list[Forecast], jobs: int = 1) -> list[str]:
    """The lines that are printed of forecasts."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(forecast, "forecast_cells", lambda *_: found)
    command.show_forecasts([one.item for one in found], PARAMS, jobs)
    return capsys.readouterr().out.splitlines()


def test_a_cell_that_is_trained_is_a_row_with_reasons_time_and_memory(monkeypatch, capsys):
    found = [cell("stale", 3, 90.0, ("code", "protocol (steps 4 → [8])"))]
    assert shown(monkeypatch, capsys, found)[1].split("  ") == [
        "shapes 1_4 cps seed 3", "stale", "code; protocol (steps 4 → [8])", "1 min 30 s", "512",
    ]  # fmt: skip


def test_a_cell_that_is_not_trained_has_no_time(monkeypatch, capsys):
    assert shown(monkeypatch, capsys, [cell("in the store", 0)])[1].split() == [
        "shapes", "1_4", "cps", "seed", "0", "in", "the", "store",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("jobs", "together", "time"), [(1, 1, "4 min 00 s"), (2, 2, "2 min 00 s"), (9, 3, "1 min 20 s")]
)
def test_trainings_at_a_time_share_the_time(monkeypatch, capsys, jobs, together, time):
    """No more than there are trainings."""
    found = [cell("new", seed, 80.0) for seed in range(3)] + [cell("up to date", 3)]
    last = shown(monkeypatch, capsys, found, jobs)[-1]
    assert last == f"3 of 4 cells would be trained; about {time}, {together} at a time"


def test_where_nothing_is_known_no_time_is_told(monkeypatch, capsys):
    last = shown(monkeypatch, capsys, [cell("new", 0, math.nan)])[-1]
    assert last == "1 of 1 cells would be trained; the time of 1 of them is not known (rc2l-bench cost measures it)"


def test_what_nothing_is_known_of_is_counted(monkeypatch, capsys):
    found = [cell("new", 0, 60.0), cell("new", 1, math.nan)]
    last = shown(monkeypatch, capsys, found)[-1]
    assert last.startswith(
        "2 of 2 cells would be trained; about 1 min 00 s for 1 of them, 1 at a time; the time of 1 of"
    )


def test_where_nothing_is_trained_nothing_is_said_of_time(monkeypatch, capsys):
    assert shown(monkeypatch, capsys, [cell("up to date", 0)])[-1] == "0 of 1 cells would be trained"
