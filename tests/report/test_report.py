import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import CLASSES, ROOT, confusions, declared_protocol, params, reseal, write_grid, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report import figures
from rc2l_bench.report import report as reports
from rc2l_bench.report.comparison import Key
from rc2l_bench.report.formatting import findings
from rc2l_bench.report.writer import frame

SUPERVISED, CPS, RC2L = "baselines/supervised", "baselines/cps", "rc2l_bench/methods/rc2l"
GRID = params(method=[SUPERVISED, CPS, RC2L], split=["1_16", "1_4"], seed=[0, 1, 2])


def build(root, grid=GRID, **more):
    return reports.build(Path(root), grid, **more)


def said(report):
    return "\n".join(f"{remark.where}: {remark.text}" for remark in report.remarks)


def test_the_table_is_the_declared_grid_also_without_runs(tmp_path):
    report = build(tmp_path / "runs")
    (section,) = report.sections
    assert (section.methods, tuple(c.split for c in section.columns)) == ((SUPERVISED, CPS, RC2L), ("1_16", "1_4"))
    assert all(place.final is None and place.missing == (0, 1, 2) for place in section.groups.values())
    assert report.missing == 18


def test_a_missing_cell_is_an_empty_place_and_its_neighbours_stay(tmp_path):
    write_grid(tmp_path, GRID.grid, skip={("shapes", "1_16", CPS, s) for s in range(3)} | {("shapes", "1_4", CPS, 1)})
    report = build(tmp_path)
    (section,) = report.sections
    assert f"shapes/1_16/{CPS}: no result for seeds 0, 1, 2" in said(report)
    assert f"shapes/1_4/{CPS}: no result for seed 1" in said(report)
    assert section.groups[Key(CPS, "1_16")].final is None
    assert section.groups[Key(CPS, "1_4")].missing == (1,)
    assert section.groups[Key(CPS, "1_4")].final.n == 2
    assert section.groups[Key(RC2L, "1_16")].final.n == 3


def test_the_mean_is_that_of_the_final_scores(tmp_path):
    folders = [write_run(tmp_path, seed=seed) for seed in range(3)]
    scores = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    place = build(tmp_path).sections[0].groups[Key(SUPERVISED, "1_16")]
    assert place.final.mean == pytest.approx(np.mean([s["miou"] for s in scores]))
    assert place.final.sd == pytest.approx(np.std([s["miou"] for s in scores], ddof=1))
    assert place.best.mean == pytest.approx(np.mean([s["miou_best"] for s in scores]))
    assert place.optimism == pytest.approx(place.best.mean - place.final.mean)
    assert place.final.low < place.final.mean < place.final.high


def test_a_clear_winner_stands_alone_and_twins_share_the_place(tmp_path):
    for seed in range(3):
        write_run(tmp_path, split="1_16", seed=seed)
        write_run(tmp_path, split="1_16", method=CPS, seed=seed, quality=0.9)
        write_run(tmp_path, split="1_4", method=RC2L, seed=seed, quality=0.9)
        write_run(tmp_path, split="1_4", method=CPS, seed=seed, quality=0.9)
        write_run(tmp_path, split="1_4", seed=seed)
    (section,) = build(tmp_path).sections
    tied = {key for key, place in section.groups.items() if place.tied}
    assert tied == {Key(CPS, "1_16"), Key(CPS, "1_4"), Key(RC2L, "1_4")}
    assert section.groups[Key(CPS, "1_16")].gap.p < 0.05
    assert section.groups[Key(CPS, "1_16")].gap.mean > 0.1


def test_the_floor_is_finite_only_where_methods_can_be_compared(tmp_path):
    for seed in range(3):
        write_run(tmp_path, split="1_16", seed=seed)
        write_run(tmp_path, split="1_16", method=CPS, seed=seed)
        write_run(tmp_path, split="1_4", seed=seed)
    first, second = build(tmp_path).sections[0].columns
    assert 0 < first.floor < 0.2
    assert math.isnan(second.floor)


def test_one_seed_has_no_verdict_only_an_interval_over_images(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, method=CPS, quality=0.9)
    (section,) = build(tmp_path).sections
    said = "\n".join(findings(section))
    assert section.one_seed
    assert "intervals cover the images only, and there is no verdict" in said
    assert "no verdict, because it has one seed" in said
    assert "over images alone)" in said
    assert "told apart" not in said
    gap = section.groups[Key(CPS, "1_16")].gap
    assert (gap.over, gap.low > 0.1, math.isnan(gap.p), gap.differs) == ("images", True, True, False)
    assert not any(group.tied for group in section.groups.values())


@pytest.mark.parametrize("quality", [0.56, 0.601, 0.62, 0.9])
def test_text_interval_p_value_and_bold_print_agree(tmp_path, quality):
    for seed in range(3):
        write_run(tmp_path, seed=seed)
        write_run(tmp_path, method=CPS, seed=seed, quality=quality)
        write_run(tmp_path, method=RC2L, seed=seed, quality=0.5)
    (section,) = build(tmp_path).sections
    group, reference = section.groups[Key(CPS, "1_16")], section.groups[Key(SUPERVISED, "1_16")]
    apart = group.gap.low > 0 or group.gap.high < 0
    lesser, name = (reference, "supervised") if group.gap.mean > 0 else (group, "cps")
    assert (group.gap.p < 0.05, group.gap.differs) == (apart, apart)
    assert apart or lesser.tied  # left out of bold only where the interval alone excludes 0, too
    told = findings(section)[0].partition(" cannot be told")[0].rpartition("; ")[2]
    assert (name in told.split(" and ")) is lesser.tied
    assert ("by itself more than chance" in findings(section)[0]) is (apart and lesser is reference and lesser.tied)


@pytest.mark.parametrize(
    ("draws", "text"),
    [
        ("by_seed", "1_16: intervals cover the choice of labels, initialisation and images: seed k trains on the k-th"),
        (
            "fixed",
            "1_16: intervals cover initialisation and images, not the choice of labels: all seeds train on the s",
        ),
        ("list", "not the choice of labels: all seeds train on the same list."),
        ("all", "every image is labelled, so there is no choice of labels."),
    ],
)
def test_the_report_says_what_its_intervals_cover(tmp_path, draws, text):
    for seed in range(2):
        write_run(tmp_path, seed=seed, draws=draws)
    (section,) = build(tmp_path).sections
    assert text in "\n".join(findings(section))


def test_runs_outside_the_grid_get_their_own_section(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, dataset="camvid", split="1_30", test=True)
    write_run(tmp_path, split="full")
    write_run(tmp_path, split="1_30")
    declared, camvid, shapes = build(tmp_path).sections
    assert declared.declared
    assert (camvid.dataset, camvid.declared, shapes.dataset, shapes.declared) == ("camvid", False, "shapes", False)
    assert [c.split for c in shapes.columns] == ["1_30", "full"]
    assert camvid.groups[Key(SUPERVISED, "1_30")].test.mean > 0
    assert all(not place.missing for place in camvid.groups.values())


def test_runs_of_another_protocol_are_set_aside_with_what_differs(tmp_path):
    other = declared_protocol(params(), "shapes") | {"steps": 77}
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, protocol=other)
    write_run(tmp_path, seed=2, protocol=other)
    report = build(tmp_path)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n == 1
    assert "seed1: set aside, not comparable: protocol.steps is 77 instead of" in said(report)
    assert report.status(report.runs[1].cell) == "set aside"


def test_runs_of_an_older_protocol_are_shown_and_said_to_be_so(tmp_path):
    other = declared_protocol(params(), "shapes") | {"steps": 77}
    write_run(tmp_path, protocol=other)
    report = build(tmp_path)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n == 1
    assert "not made with the protocol of params.yaml: steps is 77" in said(report)


def test_a_run_whose_images_were_streamed_is_shown_and_said_to_be_beyond_replay(tmp_path):
    split = {"id": "aa", "draws": "fixed", "labelled": 63, "unlabelled": None, "unlabelled_id": "ss"}
    pool = {"sets": [], "stream": ["https://a.org/x.tar"], "shuffle": 9, "replayable": False}
    write_run(tmp_path, record={"split": split, "pool": pool})
    report = build(tmp_path)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n == 1
    assert "not replayable: its unlabelled images were streamed from https://a.org/x.tar" in said(report)


def test_seeds_may_have_draws_of_their_own_but_methods_share_them(tmp_path):
    for seed in range(3):
        write_run(tmp_path, seed=seed, draws="by_seed")
        write_run(tmp_path, method="baselines/cps", seed=seed, draws="by_seed")
    write_run(tmp_path, method="baselines/u2pl", seed=1, draws="by_seed", split_id="ff")
    write_run(tmp_path, method="baselines/u2pl", seed=2, draws="fixed")
    report = build(tmp_path)
    (column,) = report.sections[0].columns[:1]
    assert [report.sections[0].groups[Key(m, column.split)].final.n for m in (SUPERVISED, "baselines/cps")] == [3, 3]
    assert "u2pl/seed1: set aside, not comparable: split id is ff instead of" in said(report)
    assert "u2pl/seed2: set aside, not comparable: draws of the labels is fixed instead of by_seed" in said(report)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"split_id": "ff"}, "split id is ff instead of"),
        ({"record": {"pool": {"sets": ["ee"]}}}, 'images added to them is ["ee"] instead of []'),
        ({"unlabelled_id": "ff"}, "id of the unlabelled side is ff instead of"),
        (
            {"record": {"shards": {"val": "cc", "labelled": "bb1_16", "pool": "zz"}}},
            "shards of all training images is zz",
        ),
        ({"method_config": {"weight": 2.0}}, "method.weight is 2.0 instead of 1.0"),
        ({"record": {"shards": {"val": "dd", "labelled": "bb1_16"}}}, "validation shards is dd instead of cc"),
        ({"classes": CLASSES[:4]}, "classes is"),
    ],
)
def test_what_is_not_comparable_is_set_aside(tmp_path, change, text):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, seed=2, **change)
    report = build(tmp_path)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.n == 2
    assert text in said(report)


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


def test_an_npz_that_would_fill_the_memory_is_not_unpacked(tmp_path):
    """60 MB of zeros for each of its 18 KB; what it claims is checked before."""
    folder = write_run(tmp_path)
    with zipfile.ZipFile(folder / "confusion.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("val", "val_ids"):
            with archive.open(f"{name}.npy", "w") as member:
                shape = {"descr": "<i4", "fortran_order": False, "shape": (1 << 20, 64, 64)}
                np.lib.format.write_array_header_1_0(member, shape)
                for _ in range(8):
                    member.write(bytes(1 << 20))
    reseal(folder)
    report = build(tmp_path)
    assert "confusion.npz: damaged ('val' has the shape (1048576, 64, 64), expected at most" in said(report)


def test_counts_that_contradict_the_metrics_are_not_used(tmp_path):
    folder = write_run(tmp_path)
    np.savez_compressed(folder / "confusion.npz", val=confusions(0.9), val_ids=np.array([str(i) for i in range(40)]))
    reseal(folder)
    report = build(tmp_path)
    assert "metrics.json says" in said(report)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.over == "nothing"


def test_a_folder_that_was_renamed_is_left_out(tmp_path):
    folder = write_run(tmp_path, method=CPS)
    folder.parent.rename(folder.parents[1] / "better")
    report = build(tmp_path)
    assert "was it renamed?" in said(report)
    assert not report.runs


def test_times_of_different_machines_are_said_not_to_be_comparable(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1, record={"hardware": {"cpu": "another"}})
    assert "2 kinds of hardware" in said(build(tmp_path))


def test_costs_are_multiples_of_the_reference(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, method=CPS)
    costs = build(tmp_path).sections[0].costs
    assert costs[SUPERVISED].time_ratio == 1
    assert costs[CPS].time_ratio == pytest.approx(1.6)
    assert costs[CPS].memory_mb == pytest.approx(940)


@pytest.mark.parametrize(("name", "chosen"), [(None, SUPERVISED), ("rc2l", RC2L), ("cps", CPS), ("baselines/cps", CPS)])
def test_a_reference_is_found_by_its_tail(name, chosen):
    assert reports.choose_reference(name, [CPS, SUPERVISED, RC2L]) == chosen


@pytest.mark.parametrize(("name", "text"), [("suprvised", "no such method"), ("x", "could be a/x or b/x")])
def test_a_reference_that_is_none_is_refused(name, text):
    with pytest.raises(UsageError, match=text):
        reports.choose_reference(name, ["a/x", "b/x", SUPERVISED])


def test_the_rows_of_the_csv_are_the_declared_and_the_found_cells(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, split="full", seed=0)
    table = frame(build(tmp_path))
    assert len(table) == 19
    assert table["status"].value_counts().to_dict() == {"missing": 17, "ok": 2}
    row = table[table["split"] == "full"].iloc[0]
    assert not row["declared"]
    metrics = json.loads((tmp_path / f"shapes/full/{SUPERVISED}/seed0/metrics.json").read_text())
    assert row["miou"] == metrics["miou"]
    assert row["iou/ring"] == metrics["iou"]["ring"]
    assert pd.isna(table["miou"].iloc[1])


def test_the_report_needs_no_torch():
    code = "import sys, rc2l_bench.report.writer, pipelines.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_command_imports_nothing_slow():
    code = "import sys, rc2l_bench.cli.report; sys.exit(bool({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
