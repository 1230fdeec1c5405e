"""What is copied into folders of evidence."""

from __future__ import annotations

import json
import shutil

import pytest
from report_data import CPS, PLACE, SUPERVISED, reseal, write_run

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.report.evidence import check_folder
from rc2l_bench.report.evidence_export import Choice, export_runs
from rc2l_bench.sources import fingerprint_again


def export(runs, out, pictures=100_000, **choice):
    return list(export_runs(runs, out, Choice(**choice), pictures))


def test_exported_runs_are_whole_and_have_no_weights(tmp_path, finished):
    (run,) = export(tmp_path / "runs", tmp_path / "out")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"run.json", "metrics.json", "confusion.npz", "cost.json", "history.csv", "panels"}
    assert (run.folder / "run.json").read_bytes() == (finished / "run.json").read_bytes()
    assert run.bytes == sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert check_folder(tmp_path / "out") == (1, [])


def test_evidence_can_be_exported_again(tmp_path, finished):
    export(tmp_path / "runs", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / PLACE / "panels")
    (run,) = export(tmp_path / "out", tmp_path / "further")
    assert run.new
    assert check_folder(tmp_path / "further") == (1, [])


def test_pictures_are_taken_as_far_as_they_fit(tmp_path, finished):
    panels = sorted((finished / "panels").iterdir())
    first = sum(path.stat().st_size for path in panels[:3])
    (run,) = export(tmp_path / "runs", tmp_path / "out", pictures=first)
    assert sorted(path.name for path in (run.folder / "panels").iterdir()) == [path.name for path in panels[:3]]
    (run,) = export(tmp_path / "runs", tmp_path / "out", pictures=0)
    assert not (run.folder / "panels").exists()


def test_only_what_is_asked_for_is_exported(tmp_path):
    for method in (SUPERVISED, CPS, f"{CPS}+plain"):
        for seed in range(2):
            write_run(tmp_path / "runs", method=method, seed=seed, panels=0)
    # report_data spells a method as its folder does; its record has to say what the folder means.
    for seed in range(2):
        folder = tmp_path / f"runs/shapes/1_16/{CPS}+plain/seed{seed}"
        cell = {"dataset": "shapes", "split": "1_16", "method": f"{CPS}@plain", "seed": seed}
        record = json.loads((folder / "run.json").read_text()) | {"cell": cell}
        parts = {name: value for name, value in record.items() if name not in ("files", "sha256")}
        reseal(folder, cell=cell, fingerprint=fingerprint_again(parts))

    def taken(**choice):
        out = tmp_path / str(choice)
        return [
            str(run.folder.relative_to(out / "shapes/1_16/baselines"))
            for run in export(tmp_path / "runs", out, **choice)
        ]

    assert taken(method=["cps"], seed=[1]) == ["cps/seed1"]
    assert taken(method=["cps@plain"]) == ["cps+plain/seed0", "cps+plain/seed1"]
    assert len(taken(split=["1_16"])) == 6


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"method": ["cbs"]}, "--method cbs: no finished run under .* has it"),
        ({"split": ["1_4"]}, "--split 1_4: no finished run under .* has it; valid: 1_16"),
        ({"seed": [1], "method": ["cps"]}, "no finished run there is all of what was asked for"),
    ],
)
def test_a_choice_that_nothing_is_of_is_refused(tmp_path, choice, text):
    write_run(tmp_path, seed=1)
    write_run(tmp_path, method=CPS)
    with pytest.raises(UsageError, match=text):
        export(tmp_path, tmp_path / "out", **choice)
    assert not (tmp_path / "out").exists()


def test_another_run_is_not_overwritten_and_nothing_else_is_written(tmp_path, finished):
    export(tmp_path / "runs", tmp_path / "out")
    before = (tmp_path / "out" / PLACE / "run.json").read_bytes()
    write_run(tmp_path / "more", quality=0.9)
    write_run(tmp_path / "more", dataset="camvid")
    with pytest.raises(UsageError, match=r"supervised/seed0: holds another run than .*more"):
        export(tmp_path / "more", tmp_path / "out")
    assert (tmp_path / "out" / PLACE / "run.json").read_bytes() == before
    assert not (tmp_path / "out/camvid").exists()


def test_the_same_run_again_is_not_new(tmp_path, finished):
    assert [export(tmp_path / "runs", tmp_path / "out")[0].new for _ in range(2)] == [True, False]


def test_a_damaged_run_is_not_exported_nor_are_its_neighbours(tmp_path, finished):
    write_run(tmp_path / "runs", method=CPS)
    (finished / "history.csv").write_text("step,miou\n1,0.9\n")
    with pytest.raises(BenchError, match=r"history\.csv: has changed since it was written: nothing was exported"):
        export(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out").exists()
