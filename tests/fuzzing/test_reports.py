"""A report of results whose hashes are right and whose content is of another version, or nonsense."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import fuzz_corpus
import pytest
import report_data
from fuzz_strategies import CASES, changed, one_line_or_none
from hypothesis import assume, given
from hypothesis import strategies as st

from rc2l_bench.report import writer
from rc2l_bench.report.report import build

pytestmark = pytest.mark.slow
METHODS, SEEDS = ["baselines/supervised", "baselines/cps"], [0, 1]
RECORD = {
    "tuning": {"status": "tuned", "trials": 16, "numbers": {"lr": 0.1}, "study": "x"},
    "carried": [{"fingerprint": "f" * 64, "reason": "a comment"}],
    "protocol_changes": {"net": {"region": {"queries": 3}}},
}
PARAMS = report_data.params(split=["1_16"], method=METHODS, seed=SEEDS)
CELL = ("shapes", "1_16", "baselines/cps", 1)


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Iterator[Path]:
    """One of four results, in a checkout that is the current folder."""
    with chdir(tmp_path_factory.mktemp("reports")):
        shutil.copytree(fuzz_corpus.ROOT / "reports/templates", "reports/templates")
        report_data.write_grid("runs", PARAMS.grid, images=4, panels=0, record=RECORD)
        yield Path("runs", *map(str, CELL[:3]), "seed1")


@CASES
@given(data=st.data(), name=st.sampled_from(["run.json", "metrics.json", "cost.json"]))
def test_a_report_of_other_content_is_a_report(result, data, name):
    good = {path: path.read_bytes() for path in result.glob("*.json")}
    other = data.draw(changed(json.loads((result / name).read_bytes())))
    assume("\\ud800" not in json.dumps(other))  # cannot be written, with a hash or without
    try:
        if name == "run.json":
            (result / name).write_bytes(fuzz_corpus.sealed(other))
        else:
            (result / name).write_text(json.dumps(other))
            report_data.reseal(result)
        with one_line_or_none("baselines/cps"):
            made = build(Path("runs"), PARAMS, resamples=10)
            assert len(made.runs) + len([one for one in made.remarks if "baselines/cps/seed1" in one.where]) >= 4
            assert "supervised" in writer.compose(made, "markdown")
    finally:
        for path, content in good.items():
            path.write_bytes(content)
