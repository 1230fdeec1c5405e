import json

import pytest
from report_data import CPS, SUPERVISED, build, reseal, said, write_run

from rc2l_bench.report import figures
from rc2l_bench.report.comparison import Key


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("run.json", None, "left out: run.json: No such file or directory"),
        ("run.json", '{"cell": {"data', "left out: run.json: has no hash of its own: cut off, or of an older version"),
        ("metrics.json", None, "left out: metrics.json: No such file or directory"),
        ("metrics.json", "[1]", "left out: metrics.json: has changed since it was written"),
        ("cost.json", None, "no time and memory: cost.json: No such file or directory"),
        ("cost.json", "{}", "no time and memory: cost.json: has changed since it was written"),
        ("confusion.npz", None, "no interval over images: confusion.npz: No such file or directory"),
        ("confusion.npz", "PK", "no interval over images: confusion.npz: has changed since it was written"),
    ],
)
def test_a_broken_file_becomes_a_remark_and_the_rest_is_shown(tmp_path, name, content, text):
    write_run(tmp_path, seed=0)
    folder = write_run(tmp_path, seed=1)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    report = build(tmp_path)
    assert f"shapes/1_16/{SUPERVISED}/seed1: {text}" in said(report)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n >= 1


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("metrics.json", "[1]", "left out: metrics.json: holds list"),
        ("metrics.json", '{"miou": NaN}', "left out: metrics.json: not valid JSON (damaged (NaN is no number))"),
        ("metrics.json", '{"miou": null}', "metrics.json holds no mIoU (it says None)"),
        ("metrics.json", '{"miou": 41.3}', "metrics.json holds no mIoU (it says 41.3)"),
        ("metrics.json", '{"miou": 1' + "0" * 400 + "}", "metrics.json holds no mIoU (it says 1"),
        ("metrics.json", "[" * 100_000, "left out: metrics.json: not valid JSON (nested too deeply)"),
        ("confusion.npz", "PK", "no interval over images: confusion.npz: damaged (File is not a zip file)"),
        ("history.csv", "step,miou\n1,many\n", "no learning curve: history.csv: damaged (could not convert"),
        ("history.csv", "miou\n1\n", "no learning curve: history.csv: has no column 'step'"),
    ],
)
def test_a_file_that_was_written_wrong_becomes_a_remark_too(tmp_path, name, content, text):
    write_run(tmp_path, seed=0)
    folder = write_run(tmp_path, seed=1)
    (folder / name).write_text(content)
    reseal(folder)
    report = build(tmp_path)
    remarks = [*report.remarks, *figures.draw(report.sections[0], tmp_path, "x")[1]]
    assert f"shapes/1_16/{SUPERVISED}/seed1: {text}" in "\n".join(f"{r.where}: {r.text}" for r in remarks)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n >= 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"fingerprint": 3}, "fingerprint: Input should be a valid string"),
        ({"dataset": {"classes": ["a"], "palette": [[0, 0, 256]]}}, "dataset.palette.0.2: Input should be less"),
        (
            {"split": {"id": "a", "draws": "list", "labelled": 1, "unlabelled": 2}},
            "split.unlabelled_id: Field required",
        ),
    ],
)
def test_a_record_without_what_the_report_relies_on_is_left_out(tmp_path, change, text):
    reseal(write_run(tmp_path), **change)
    assert f"left out: run.json: {text}" in said(build(tmp_path))


def test_a_run_without_hashes_is_left_out(tmp_path):
    folder = write_run(tmp_path)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({key: record[key] for key in record if key not in ("files", "sha256")}))
    assert "left out: run.json: has no hash of its own: cut off, or of an older version" in said(build(tmp_path))


def test_a_single_digit_of_a_score_cannot_change_unseen(tmp_path):
    folder = write_run(tmp_path)
    text = (folder / "metrics.json").read_text()
    first, rest = text.split('"miou": 0.', 1)
    (folder / "metrics.json").write_text(f'{first}"miou": 0.{(int(rest[0]) + 1) % 10}{rest[1:]}')
    report = build(tmp_path)
    assert "left out: metrics.json: has changed since it was written" in said(report)
    assert not report.runs


def test_a_folder_that_was_renamed_is_left_out(tmp_path):
    folder = write_run(tmp_path, method=CPS)
    folder.parent.rename(folder.parents[1] / "better")
    report = build(tmp_path)
    assert "was it renamed?" in said(report)
    assert not report.runs
