"""Figures that documents quote from evidence."""

from __future__ import annotations

import pytest

from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.report.quotes import refresh


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
        ("shapes iou method='cps", "expected a set, a form, and options"),
        ('shapes iou method=cps split=1_16 names="traffic light,box"', "names=traffic light,box: valid: "),
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
