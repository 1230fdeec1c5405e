"""The form of reports/published.csv; the numbers themselves are quoted from the sources that it names."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

COLUMNS = [
    "method", "backbone", "dataset", "split_family", "labels", "crop", "output_stride", "evaluation", "pretraining",
    "miou", "known", "source",
]  # fmt: skip
POOL = {"voc": 10582, "cityscapes": 2975, "ade20k": 20210, "coco": 118287}
FILE = Path(__file__).parents[2] / "reports" / "published.csv"

with FILE.open(encoding="utf-8", newline="") as opened:
    HEADER, *ROWS = list(csv.reader(opened))
ENTRIES = [dict(zip(HEADER, row, strict=True)) for row in ROWS]


def test_the_columns_are_the_protocol_and_the_number() -> None:
    assert HEADER == COLUMNS
    assert len(ENTRIES) > 400


@pytest.mark.parametrize("column", ["method", "dataset", "labels", "miou", "known", "source"])
def test_no_row_lacks_what_makes_a_number_citable(column: str) -> None:
    assert [row for row in ENTRIES if not row[column].strip()] == []


def test_numbers_are_percent_and_counts_fit_the_data_set() -> None:
    for row in ENTRIES:
        assert re.fullmatch(r"\d{2}\.\d{1,2}", row["miou"]), row
        assert 20 < float(row["miou"]) < 95, row
        assert 1 <= int(row["labels"]) <= POOL[row["dataset"]], row


def test_fields_of_the_protocol_have_known_values_or_are_empty() -> None:
    families = {"classic", "cps", "u2pl", "cac", "reco", "unimatch", "full", ""}
    for row in ENTRIES:
        assert re.fullmatch(r"(\d{3}(x\d{3,4})?)?", row["crop"]), row
        assert row["output_stride"] in {"8", "14", "16", "32", ""}, row
        assert row["evaluation"] in {"whole", "sliding", "multi-scale + flip", ""}, row
        assert row["split_family"] in families, row
        assert row["pretraining"] in {"imagenet", "coco", "dinov2", "clip", ""}, row
        assert row["known"] in {"stated", "derived"}, row


def test_nothing_that_was_only_recalled_is_quoted() -> None:
    assert "[R]" not in FILE.read_text(encoding="utf-8")


def test_a_derived_figure_says_what_it_was_derived_from() -> None:
    derived = [row for row in ENTRIES if row["known"] == "derived"]
    assert derived
    assert all("its gain over" in row["source"] for row in derived)


def test_figures_of_rc2l_say_from_which_weights_they_start() -> None:
    found = {(row["dataset"], row["labels"]): row for row in ENTRIES if row["method"] == "RC2L"}
    coco = {key for key, row in found.items() if row["pretraining"] == "coco"}
    assert coco == {
        ("voc", "92"),
        ("voc", "183"),
        ("voc", "366"),
        ("voc", "662"),
        *(("cityscapes", n) for n in ("372", "744")),
    }
    stated = {key for key, row in found.items() if row["known"] == "stated"}
    assert stated == {("voc", "732"), ("voc", "1464"), ("voc", "2646")}


def test_no_number_stands_twice() -> None:
    keys = [tuple(value for column, value in row.items() if column != "miou") for row in ENTRIES]
    assert len(set(keys)) == len(keys)
