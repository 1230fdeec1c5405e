"""Which unlabelled training images pseudo-labels are scored on."""

from __future__ import annotations

from rc2l_bench.data.audit import MOST, choose_audited
from rc2l_bench.data.catalog import Catalog, Row
from rc2l_bench.data.splits import Split, TrainingImages


def table(masked: dict[str, bool], part: str = "train") -> Catalog:
    rows = [Row(name, part, 4, 4, "00" * 32, has, (16,) if has else (0,), 0) for name, has in sorted(masked.items())]
    return Catalog(("one",), tuple(rows))


def split(labelled: list[str], unlabelled: list[str] | None = None) -> Split:
    return Split(
        dataset="tiny", name="few", labelled=tuple(labelled),
        unlabelled=None if unlabelled is None else tuple(unlabelled),
        train=TrainingImages(count=1, ids_sha256="ab" * 32), pixels={}, provenance={},
    )  # fmt: skip


def test_labelled_images_are_never_audited():
    assert choose_audited(split(["b", "c"]), table(dict.fromkeys("abcd", True))) == ["a", "d"]


def test_images_without_a_mask_are_not_audited():
    assert choose_audited(split(["a"]), table({"a": True, "b": False, "c": True})) == ["c"]


def test_images_of_other_parts_are_not_audited():
    assert choose_audited(split([]), table({"a": True}, part="val")) == []


def test_of_a_published_list_only_its_unlabelled_images_are_audited():
    assert choose_audited(split(["a"], unlabelled=["c"]), table(dict.fromkeys("abcd", True))) == ["c"]


def test_nothing_is_audited_where_every_image_is_labelled():
    assert choose_audited(split(list("ab")), table(dict.fromkeys("ab", True))) == []


def test_many_images_are_thinned_out_evenly():
    ids = [f"{k:04d}" for k in range(3 * MOST)]
    assert choose_audited(split([]), table(dict.fromkeys(ids, True))) == ids[1::3]
