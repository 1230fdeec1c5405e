"""The stage `report`."""

import subprocess
import sys

from report_data import ROOT, write_run

from rc2l_bench.config import Params, load


def test_the_stage_writes_the_report(tmp_path):
    write_run(tmp_path / "runs")
    call = [sys.executable, "-m", "pipelines.report", str(tmp_path / "runs"), str(tmp_path / "out")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True)
    cells = load(Params, ROOT / "params.yaml").grid
    total = len(cells.dataset) * len(cells.split) * len(cells.method) * len(cells.seed)
    assert f"of {total} declared runs" in " ".join(done.stdout.split())
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_report_needs_no_torch():
    code = "import sys, rc2l_bench.report.writer, pipelines.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
