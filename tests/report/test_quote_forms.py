"""The forms in which documents quote evidence."""

from __future__ import annotations

import pytest
from report_data import CPS, RC2L, SUPERVISED, quoted


def final(library, method, split="1_16"):
    section = library.section("shapes", "", None)
    return next(group.final for key, group in section.groups.items() if key == (method, split))


def test_a_figure_is_the_mean_of_the_runs(library):
    found = final(library, CPS)
    assert quoted(library, "shapes miou method=cps split=1_16") == f"{100 * found.mean:.1f} ± {100 * found.sd:.1f}"


def test_seeds_stand_in_their_order(library):
    runs = library.section("shapes", "", None).groups[CPS, "1_4"].runs
    expected = ", ".join(f"{100 * run.miou:.1f}" for run in runs)
    assert quoted(library, "shapes seeds method=cps split=1_4") == expected
    assert len(runs) == 3


def test_a_difference_is_against_the_reference_that_is_asked_for(library):
    against = [quoted(library, f"shapes gap method=rc2l split=1_16{more}") for more in ("", " reference=cps")]
    means = [final(library, RC2L).mean - final(library, other).mean for other in (SUPERVISED, CPS)]
    assert [text.split()[0] for text in against] == [f"{100 * mean:+.1f}" for mean in means]


def test_a_table_has_a_row_for_each_method_and_all_its_numbers(library):
    head, rule, *rows = quoted(library, "shapes table split=1_16").splitlines()
    assert head == "| method | mIoU | against supervised | memory, MiB (resident) | step, ms | training |"
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert [row.split(" | ")[0] for row in rows] == ["| supervised", "| cps", "| rc2l"]
    assert all(row.count("|") == 7 for row in rows)
    assert f"{100 * final(library, CPS).mean:.1f}" in rows[1]
    assert "×1.60" in rows[1]


def test_names_are_escaped_and_one_seed_has_no_spread(library):
    text = quoted(library, "small table")
    assert r"| supervised\_region |" in text
    assert "±" not in text


@pytest.mark.parametrize(
    "words", ["shapes scores", "shapes findings", "shapes hardware", "shapes runs", "shapes floor split=1_4"]
)
def test_every_form_gives_something(library, words):
    assert quoted(library, words)
