from report_data import TEMPLATES, build, params, write_grid

from rc2l_bench.report.writer import write


def test_figures_of_many_methods_stay_readable(tmp_path):
    grid = params(method=[f"baselines/m{i}" for i in range(30)], split=["1_16", "1_4"], seed=[0])
    write_grid(tmp_path / "runs", grid.grid, images=3, panels=1)
    write(build(tmp_path / "runs", grid), tmp_path / "out", TEMPLATES)
    text = (tmp_path / "out" / "report.md").read_text()
    assert "figures show the first 24 of 30 methods" in text
    assert "Predictions of the first 8 of 30 methods" in text
