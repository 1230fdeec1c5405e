import json
import math

import numpy as np
import pytest
from report_data import CPS, RC2L, SUPERVISED, build, write_run

from rc2l_bench.report.comparison import Key
from rc2l_bench.report.formatting import findings


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


def test_intervals_of_differences_have_widths_only_where_methods_can_be_compared(tmp_path):
    for seed in range(3):
        write_run(tmp_path, split="1_16", seed=seed)
        write_run(tmp_path, split="1_16", method=CPS, seed=seed)
        write_run(tmp_path, split="1_4", seed=seed)
    first, second = build(tmp_path).sections[0].columns
    assert first.half_widths is not None
    assert 0 < first.half_widths.typical < 0.2
    assert second.half_widths is None


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
