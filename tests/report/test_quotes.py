"""Figures that documents quote from evidence."""

from __future__ import annotations

import pytest
from report_data import params, write_grid, write_run

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.report.quotes import Library, refresh

SUPERVISED, CPS, RC2L = "baselines/supervised", "baselines/cps", "rc2l_bench/methods/rc2l"
GRID = params(method=[SUPERVISED, CPS, RC2L], split=["1_16", "1_4"], seed=[0, 1, 2])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("evidence")
    write_grid(root / "shapes", GRID.grid, panels=0)
    write_grid(
        root / "small",
        params(method=[SUPERVISED, "baselines/supervised_region"], split=["1_8"], seed=[0]).grid,
        panels=0,
    )
    for dataset in ("camvid", "voc"):
        write_run(root / "mixed", dataset=dataset, panels=0)
    return Library(root, params())


def made(library, words):
    """What stands between the markers afterwards."""
    text, _ = refresh(f"It has <!-- evidence {words} -->?<!-- /evidence --> points.", "page.md", library)
    assert text.startswith(f"It has <!-- evidence {words} -->")
    assert text.endswith("<!-- /evidence --> points.")
    return text.split("-->")[1].removesuffix("<!-- /evidence ").strip()


def final(library, method, split="1_16"):
    section = library.section("shapes", "", None)
    return next(group.final for key, group in section.groups.items() if key == (method, split))


def test_a_figure_is_the_mean_of_the_runs(library):
    found = final(library, CPS)
    assert made(library, "shapes miou method=cps split=1_16") == f"{100 * found.mean:.1f} ± {100 * found.sd:.1f}"


def test_seeds_stand_in_their_order(library):
    runs = library.section("shapes", "", None).groups[CPS, "1_4"].runs
    expected = ", ".join(f"{100 * run.miou:.1f}" for run in runs)
    assert made(library, "shapes seeds method=cps split=1_4") == expected
    assert len(runs) == 3


def test_a_difference_is_against_the_reference_that_is_asked_for(library):
    against = [made(library, f"shapes gap method=rc2l split=1_16{more}") for more in ("", " reference=cps")]
    means = [final(library, RC2L).mean - final(library, other).mean for other in (SUPERVISED, CPS)]
    assert [text.split()[0] for text in against] == [f"{100 * mean:+.1f}" for mean in means]


def test_a_table_has_a_row_for_each_method_and_all_its_numbers(library):
    head, rule, *rows = made(library, "shapes table split=1_16").splitlines()
    assert head == "| method | mIoU | against supervised | memory, MiB (resident) | step, ms | training |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert [row.split(" | ")[0] for row in rows] == ["| supervised", "| cps", "| rc2l"]
    assert all(row.count("|") == 7 for row in rows)
    assert f"{100 * final(library, CPS).mean:.1f}" in rows[1]
    assert "×1.60" in rows[1]


def test_names_are_escaped_and_one_seed_has_no_spread(library):
    text = made(library, "small table")
    assert r"| supervised\_region |" in text
    assert "±" not in text


@pytest.mark.parametrize(
    "words", ["shapes scores", "shapes findings", "shapes hardware", "shapes runs", "shapes floor split=1_4"]
)
def test_every_form_gives_something(library, words):
    assert made(library, words)


def test_what_is_right_already_is_left_alone_and_what_is_not_is_told(library):
    first, wrong = refresh("\nIt has <!-- evidence shapes runs -->17<!-- /evidence --> runs.", "page.md", library)
    assert wrong == ["page.md:2: says '17', the evidence gives '18'"]
    assert refresh(first, "page.md", library) == (first, [])


def test_what_stands_outside_of_markers_is_not_touched(library):
    text = "a 17 \\1 \r\n<!-- a comment --> b\n"
    assert refresh(text, "page.md", library) == (text, [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("shape runs", "no evidence 'shape' under .*: did you mean 'shapes'"),
        ("shapes ruins", "unknown form 'ruins': did you mean 'runs'"),
        ("shapes", "expected a set, a form, and options"),
        ("shapes miou cps", "expected a set, a form, and options"),
        ("shapes miou split=1_16", "'miou' takes other options than split=1_16"),
        ("shapes miou method=cbs split=1_16", "method=cbs: did you mean 'cps'"),
        ("shapes miou method=cps split=1_2", "split=1_2: did you mean"),
        ("shapes table", "split=: valid: 1_16, 1_4"),
        ("shapes table split=1_16 reference=x", "--reference x: no such method"),
        ("shapes table study=alpha", "has no tables of one study 'alpha'"),
        ("mixed table", "has 2 tables of one data set, expected one"),
    ],
)
def test_a_marker_that_asks_for_what_there_is_not_is_told_with_its_line(library, words, text):
    with pytest.raises(UsageError, match=rf"^page\.md:3: .*{text}"):
        refresh(f"\n\n<!-- evidence {words} -->x<!-- /evidence -->", "page.md", library)


def test_markers_in_blocks_of_code_are_examples(library):
    text = (
        "```\n<!-- evidence nothing runs -->?<!-- /evidence -->\n```\n<!-- evidence shapes runs -->?<!-- /evidence -->"
    )
    found, wrong = refresh(text, "page.md", library)
    assert found.endswith("<!-- evidence shapes runs -->18<!-- /evidence -->")
    assert found.startswith(text.rpartition("```")[0])
    assert [line.split(":")[1] for line in wrong] == ["4"]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- evidence shapes runs -->18",
        "18<!-- /evidence -->",
        "<!-- evidence shapes runs --><!-- evidence shapes runs -->18<!-- /evidence --><!-- /evidence -->",
    ],
)
def test_half_a_marker_is_told(library, text):
    with pytest.raises(BenchError, match=r"^page\.md:1: a marker of evidence without its other half"):
        refresh(text, "page.md", library)
