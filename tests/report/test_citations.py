"""The BibTeX of a report."""

from __future__ import annotations

import pytest
import tiny_data

from rc2l_bench.errors import UsageError
from rc2l_bench.report.citations import FILE, cite, read_references
from rc2l_bench.variants import find_methods

KNOWN = read_references(tiny_data.ROOT / "reports" / FILE)


@pytest.mark.parametrize("method", find_methods(tiny_data.ROOT))
def test_every_method_has_something_to_cite(method):
    assert any(method in ids for _, ids in KNOWN)


def test_a_report_cites_the_suite_and_its_methods_alone():
    text = cite(["baselines/cps@plain"], KNOWN)
    assert "@software{rc2l_bench," in text
    assert "{chen2021cps," in text
    assert "sohn2020fixmatch" not in text


def test_the_field_of_methods_is_not_shown():
    assert "methods " not in cite(find_methods(tiny_data.ROOT), KNOWN)


def test_entries_are_whole():
    for entry, _ in KNOWN:
        assert entry.count("{") == entry.count("}")


def test_an_entry_without_methods_is_refused(tmp_path):
    (tmp_path / "x.bib").write_text("@misc{a,\n  title = {b}\n}\n")
    with pytest.raises(UsageError, match=r"@misc\{a,: has no field `methods`"):
        read_references(tmp_path / "x.bib")


def test_without_a_file_nothing_is_cited(tmp_path):
    assert cite(["baselines/cps"], read_references(tmp_path / "x.bib")) == ""
