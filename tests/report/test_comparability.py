import pytest
from report_data import CLASSES, SUPERVISED, build, declared_protocol, params, said, write_run

from rc2l_bench.report.comparison import Key


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
