import numpy as np
import pytest
from PIL import Image
from report_data import PALETTE, TEMPLATES, build, reseal, write_run

from rc2l_bench.report.qualitative import errors_of, paint
from rc2l_bench.report.writer import write


def test_errors_are_counted_without_ignored_pixels():
    truth = np.array([[0, 1], [255, 1]], np.uint8)
    share, picture = errors_of(truth, np.array([[0, 0], [0, 1]], np.uint8))
    assert share == pytest.approx(1 / 3)
    assert [tuple(int(v) for v in pixel) for pixel in picture[[0, 1], [1, 0]]] == [(213, 94, 0), (255, 255, 255)]
    assert (paint(truth, PALETTE)[0, 1] == PALETTE[1]).all()
    assert (paint(truth, PALETTE)[1, 0] == 255).all()


def test_panels_of_different_sizes_are_a_remark_not_an_end(tmp_path):
    folder = write_run(tmp_path / "runs")
    for path in (folder / "panels").glob("*.prediction.png"):
        Image.new("P", (3, 3)).save(path)
    reseal(folder)
    write(build(tmp_path / "runs"), tmp_path / "out", TEMPLATES)
    assert "no pictures: the truth is (64, 96), the prediction (3, 3)" in (tmp_path / "out" / "report.md").read_text()
