from __future__ import annotations

from pathlib import Path

import pytest
from lists_data import list_checkout
from typer.testing import CliRunner

from rc2l_bench.cli import split as cli_split

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return list_checkout(tmp_path, monkeypatch)


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str]:
    monkeypatch.setattr("rc2l_bench.data.datasets.registry.names", lambda: ["voc"])
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(cli_split.app, list(args))
    return result.exit_code, " ".join(result.output.split())


def test_describe_shows_classes_and_the_nearest_published_split(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = call(monkeypatch, "describe", "voc", "1_8")
    assert code == 0
    assert "3 labelled, 17 unlabelled" in text
    assert "nearest published split by count: 3" in text
    assert "house 12 40.0 % 3" in text


def test_compare_shows_overlaps_and_clean_masks(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "own.txt").write_text("2099_000002\n2099_000003\n")
    assert call(monkeypatch, "import", "voc", "mine", "own.txt")[0] == 0
    assert "split import voc 3" in call(monkeypatch, "compare", "voc", "mine", "full")[1]
    code, text = call(monkeypatch, "compare", "voc", "mine", "3")
    assert code == 0
    assert "mine 2 2 (100.0 %) 1 (50.0 %) 1 (50.0 %) 3 3 1 (33.3 %) 3 (100.0 %) 3 (100.0 %)" in text


def test_outside_of_a_checkout_nothing_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")
    for command in (["make", "voc", "1_4"], ["describe", "voc", "1_4"], ["import", "voc", "3"]):
        code, text = call(monkeypatch, *command)
        assert code == 2
        assert "there is no dvc.yaml here" in text
    assert list((checkout / "elsewhere").iterdir()) == []


def test_make_writes_the_split_file_and_errors_are_one_line(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "make", "voc", "1_4-s2")[0] == 0
    assert (checkout / "data/splits/voc/1_4-s2.json").is_file()
    code, _ = call(monkeypatch, "make", "vok", "1_4")
    assert code == 2
    assert call(monkeypatch, "compare", "voc", "1_4")[0] == 2
