"""The package itself: its version, and what it hands out without importing it before."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
import tiny_data

import rc2l_bench
from rc2l_bench.deployment.loading import load_run


def test_the_version_is_that_of_the_distribution():
    project = tomllib.loads((tiny_data.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert rc2l_bench.__version__ == project["version"]


def test_finished_runs_are_loaded_with_the_package_alone():
    assert rc2l_bench.load_run is load_run


def test_what_is_not_there_is_said_as_python_says_it():
    with pytest.raises(AttributeError, match=r"^module 'rc2l_bench' has no attribute 'load_runs'$"):
        _ = rc2l_bench.load_runs
    assert not hasattr(rc2l_bench, "nothing")


def test_the_package_starts_without_torch():
    code = "import sys, rc2l_bench; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tiny_data.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
