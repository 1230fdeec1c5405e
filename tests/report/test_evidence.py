"""Folders of evidence: what is copied into them, and what is found wrong with them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from report_data import confusions, reseal, write_run

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.report.evidence import check_folder
from rc2l_bench.report.evidence_export import Choice, export_runs
from rc2l_bench.seals import seal
from rc2l_bench.sources import fingerprint_again

CPS, SUPERVISED = "baselines/cps", "baselines/supervised"
PLACE = f"shapes/1_16/{SUPERVISED}/seed0"


def export(runs, out, pictures=100_000, **choice):
    return list(export_runs(runs, out, Choice(**choice), pictures))


def faults(root):
    return [line.removeprefix(f"{root}/{PLACE}/") for line in check_folder(root)[1]]


@pytest.fixture
def made(tmp_path):
    """A finished run with a test part, and weights."""
    folder = write_run(tmp_path / "runs", test=True)
    (folder / "model.safetensors").write_bytes(b"w" * 5000)
    reseal(folder)
    return folder


def rewrite(folder, name, **changes):
    """Changes keys of a file of JSON, and the hashes with it: what somebody does who wants another result."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    reseal(folder)


def test_exported_runs_are_whole_and_have_no_weights(tmp_path, made):
    (run,) = export(tmp_path / "runs", tmp_path / "out")
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"run.json", "metrics.json", "confusion.npz", "cost.json", "history.csv", "panels"}
    assert (run.folder / "run.json").read_bytes() == (made / "run.json").read_bytes()
    assert run.bytes == sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert check_folder(tmp_path / "out") == (1, [])


def test_whole_runs_can_be_checked_where_they_lie(tmp_path, made):
    assert check_folder(tmp_path / "runs") == (1, [])


def test_evidence_can_be_exported_again(tmp_path, made):
    export(tmp_path / "runs", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / PLACE / "panels")
    (run,) = export(tmp_path / "out", tmp_path / "further")
    assert run.new
    assert check_folder(tmp_path / "further") == (1, [])


def test_pictures_are_taken_as_far_as_they_fit(tmp_path, made):
    panels = sorted((made / "panels").iterdir())
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


def test_another_run_is_not_overwritten_and_nothing_else_is_written(tmp_path, made):
    export(tmp_path / "runs", tmp_path / "out")
    before = (tmp_path / "out" / PLACE / "run.json").read_bytes()
    write_run(tmp_path / "more", quality=0.9)
    write_run(tmp_path / "more", dataset="camvid")
    with pytest.raises(UsageError, match=r"supervised/seed0: holds another run than .*more"):
        export(tmp_path / "more", tmp_path / "out")
    assert (tmp_path / "out" / PLACE / "run.json").read_bytes() == before
    assert not (tmp_path / "out/camvid").exists()


def test_the_same_run_again_is_not_new(tmp_path, made):
    assert [export(tmp_path / "runs", tmp_path / "out")[0].new for _ in range(2)] == [True, False]


def test_a_damaged_run_is_not_exported_nor_are_its_neighbours(tmp_path, made):
    write_run(tmp_path / "runs", method=CPS)
    (made / "history.csv").write_text("step,miou\n1,0.9\n")
    with pytest.raises(BenchError, match=r"history\.csv: has changed since it was written: nothing was exported"):
        export(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../stolen.csv", "/etc/hostname"])
def test_a_run_that_lists_files_elsewhere_is_refused(tmp_path, made, name):
    record = json.loads((made / "run.json").read_text())
    parts = {key: value for key, value in record.items() if key != "sha256"}
    (made / "run.json").write_bytes(seal({**parts, "files": {**record["files"], name: "0" * 64}}))
    assert faults(tmp_path / "runs") == [f"run.json: lists a file outside of its folder: {name}"]


def test_a_file_that_was_changed_left_out_or_added_is_found(tmp_path, made):
    (made / "cost.json").write_text("{}")
    (made / "history.csv").unlink()
    (made / "notes.txt").write_text("mine")
    assert faults(tmp_path / "runs") == [
        "notes.txt: is not among the run's files",
        "cost.json: has changed since it was written",
        "history.csv: No such file or directory",
    ]


def test_a_part_of_the_fingerprint_that_was_edited_is_found(tmp_path, made):
    record = json.loads((made / "run.json").read_text())
    reseal(made, protocol=record["protocol"] | {"steps": 9})
    (fault,) = faults(tmp_path / "runs")
    assert fault.startswith(f"run.json: says fingerprint {record['fingerprint'][:12]}, its parts give ")


def test_a_fact_is_no_part_of_the_fingerprint(tmp_path, made):
    reseal(made, commit="f" * 40, hardware={"gpu": "another"})
    assert faults(tmp_path / "runs") == []


def test_a_score_that_the_counts_do_not_give_is_found(tmp_path, made):
    said = json.loads((made / "metrics.json").read_text())
    better = {**said["test"], "miou": said["test"]["miou"] + 0.001, "pixel_accuracy": 0.99}
    rewrite(made, "metrics.json", iou={**said["iou"], "ring": 0.987654}, test=better)
    ring, test, accuracy = faults(tmp_path / "runs")
    assert ring == f"metrics.json: val iou/ring is 0.987654, the counts give {said['iou']['ring']:.6f}"
    assert test == f"metrics.json: test miou is {better['miou']:.6f}, the counts give {said['test']['miou']:.6f}"
    assert accuracy.startswith("metrics.json: test pixel_accuracy is 0.990000, the counts give ")


def test_a_best_evaluation_that_is_none_is_found(tmp_path, made):
    rewrite(made, "metrics.json", miou_best=0.99)
    (fault,) = faults(tmp_path / "runs")
    assert fault.startswith("metrics.json: miou_best is 0.990000, the best evaluation has ")


def test_a_curve_that_is_another_is_found(tmp_path, made):
    text = (made / "history.csv").read_text()
    (made / "history.csv").write_text(text.replace("250,", "251,"))
    reseal(made)
    assert faults(tmp_path / "runs") == ["history.csv: has other evaluations than metrics.json"]


def test_nonsense_with_the_right_hash_is_found(tmp_path, made):
    (made / "cost.json").write_text("")
    reseal(made)
    (fault,) = check_folder(tmp_path / "runs")[1]
    assert "supervised/seed0: no time and memory: cost.json: not valid JSON" in fault


def test_counts_of_a_test_part_that_are_missing_are_found(tmp_path, made):
    counts = confusions(0.5)
    np.savez_compressed(made / "confusion.npz", val=counts, val_ids=np.array([str(i) for i in range(40)]))
    reseal(made)
    assert faults(tmp_path / "runs")[-1] == "confusion.npz: has no \"There is no item named 'test.npy' in the archive\""


def test_a_run_in_the_wrong_place_is_found(tmp_path, made):
    shutil.copytree(made, tmp_path / "runs/supervised")
    shutil.copytree(made, tmp_path / f"runs/shapes/1_16/{CPS}/seed0")
    count, lines = check_folder(tmp_path / "runs")
    assert count == 3
    assert "was it renamed?" in lines[0]
    assert (
        lines[1] == f"{tmp_path}/runs/supervised: a run lies here, expected it in <dataset>/<split>/<method id>/seed<k>"
    )
