from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rc2l_bench.sources import QUIET, digest_file, digest_sources, fingerprint, sources

PARTS = {"cell": {"seed": 0, "split": "1_16"}, "protocol": {"steps": 3, "lr": 1e-3}, "source": "ab", "weights": None}


def test_a_fingerprint_is_the_same_for_ever():
    assert fingerprint(PARTS) == "7ec4465f4e7bfe2299ecbd658fc7b6aad5585cde1da7ceefc4a1acf26d5a63ed"


def test_a_fingerprint_does_not_depend_on_the_order():
    turned = {key: PARTS[key] for key in reversed(PARTS)}
    turned["cell"] = {"split": "1_16", "seed": 0}
    assert fingerprint(turned) == fingerprint(PARTS)


@pytest.mark.parametrize(
    "change",
    [{"cell": {"seed": 1, "split": "1_16"}}, {"cell": {"seed": 0, "split": "1_8"}}, {"source": "ac"},
     {"protocol": {"steps": 4, "lr": 1e-3}}, {"protocol": {"steps": 3, "lr": 2e-3}}, {"weights": "none"}, {"more": 0}],
)  # fmt: skip
def test_every_part_changes_the_fingerprint(change):
    assert fingerprint(PARTS | change) != fingerprint(PARTS)


def test_what_is_not_a_number_has_no_fingerprint():
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"lr": float("nan")})


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder `baselines` of methods that stands before the real one."""
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text(
        "from rc2l_bench.losses.pixel_losses import cross_entropy\nfrom baselines import helper\n"
    )
    (folder / "two.py").write_text("import rc2l_bench.losses.pixel_losses\n")
    (folder / "helper.py").write_text("a = 1\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "baselines"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_the_source_of_a_method_is_part_of_its_digest(project):
    first = digest_sources("baselines/one")
    assert digest_sources("baselines/one") == first
    assert digest_sources("baselines/two") != first
    (project / "one.py").write_text("from baselines import helper\na = 2\n")
    assert digest_sources("baselines/one") != first


def test_what_a_method_imports_is_part_of_its_digest_and_only_of_its(project):
    first = [digest_sources(f"baselines/{name}") for name in ("one", "two")]
    (project / "helper.py").write_text("a = 2\n")
    second = [digest_sources(f"baselines/{name}") for name in ("one", "two")]
    assert second[0] != first[0]
    assert second[1] == first[1]


COMMENTED = '''"""Another docstring."""

# A comment.
a = 1
"""What a is."""


def double(x):
    """Twice x."""
    return 2 * x  # two
'''
PLAIN = "a = 1\ndef double(x):\n    return (2*x)\n"


def test_docstrings_comments_and_layout_do_not_change_a_digest(project):
    (project / "two.py").write_text(COMMENTED)
    before = digest_sources("baselines/two")
    (project / "two.py").write_text(PLAIN)
    assert digest_sources("baselines/two") == before


@pytest.mark.parametrize(
    "change", [("2*x", "3*x"), ("a = 1", "a = 2"), ("def double", "def twice"), ("return", "x += 1; return"),
               ("2*x", "'2'*x")],
)  # fmt: skip
def test_what_is_executed_changes_a_digest(project, change):
    (project / "two.py").write_text(PLAIN)
    before = digest_sources("baselines/two")
    (project / "two.py").write_text(PLAIN.replace(*change))
    assert digest_sources("baselines/two") != before


def test_the_modules_that_make_numbers_are_part_of_every_digest():
    found = sources("rc2l_bench.run.runner", "baselines.supervised")
    wanted = {
        "data.augment", "data.decode", "data.loader", "draws", "losses.pixel_losses", "methods.contract", "metrics",
        "nets.backbone", "nets.pixel_net", "run.evaluate", "run.runner", "run.train",
    }  # fmt: skip
    assert {f"rc2l_bench.{name}" for name in wanted} | {"baselines.supervised"} <= set(found)
    assert not QUIET & set(found)
    assert all(file.is_file() for file in found.values())


def test_digesting_sources_imports_none_of_them():
    """A finished run is handed out at once, without the seconds that torch takes to load."""
    code = "import sys; from rc2l_bench import sources; sources.digest_sources('baselines/cps'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "rc2l_bench.losses.pixel_losses", "baselines.cps"} & set(done.stdout.split())


def test_a_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert digest_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
