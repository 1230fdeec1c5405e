"""A checkout with a data set whose labelled images are published in lists, for tests."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from splits_data import ids, row, table

from rc2l_bench.data import catalog

ROOT = Path(__file__).parents[1]
CATALOG = table([row(name) for name in ids(20)], [row("2099_000090", "val")])


YAML = """
ids: '\\d{{4}}_\\d{{6}}'
example: "2007_000032"
clean: "3"
sources:
  one: {{repository: nobody/one, commit: abcdef0123456789abcdef0123456789abcdef01}}
aliases: {{other_3: "3"}}
lists:
  "3":
    labelled: 3
    files: [{{source: one, path: a/labeled.txt, sha256: "{sha}"}}]
  pairs_2:
    labelled: 2
    files: [{{source: one, path: b/labeled.txt, unlabelled: b/unlabeled.txt}}]
"""


THREE = b"2099_000002\n2099_000000\n2099_000001\n"


def list_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a data set `voc` of 20 images, and a mirror that holds its lists."""
    monkeypatch.chdir(tmp_path)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("RC2L_BENCH_MIRROR", str(mirror))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/voc.yaml").write_text(YAML.format(sha=hashlib.sha256(THREE).hexdigest()[:16]))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    catalog.write(CATALOG, tmp_path / "data/catalog/voc.csv")
    (mirror / "voc-3-one.txt").write_bytes(THREE)
    (mirror / "voc-pairs_2-one.txt").write_text("2099_000000\r\n2099_000001")
    (mirror / "voc-pairs_2-one-unlabelled.txt").write_text("2099_000001\r\n2099_000002\r\n2099_000003")
    return tmp_path
