"""`rc2l-bench predict` as a stranger calls it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import run_data
import tiny_data
from commands_data import call, refused
from PIL import Image

from rc2l_bench.cli import predict as command
from rc2l_bench.deployment.loading import Agreement, LoadedRun, load_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkout with a finished run."""
    root = tmp_path_factory.mktemp("trained")
    tiny_data.write_checkout(root)
    run_data.train(root, "baselines/supervised", protocol={"default": {"steps": 4}})
    return root


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> str:
    """The finished run, called from a folder with photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{number}.png")
    return str(trained / "runs/tiny/1_4/baselines/supervised/seed0")


def test_photos_become_masks(run):
    code, text = call("predict", run, "photos", "--out", "masks here")
    assert code == 0, text
    assert "3 of 3 pictures: masks here, classes by picture in masks here/shares.csv" in text
    for number in range(3):
        mask = np.array(Image.open(f"masks here/masks/{number}.png"))
        assert (mask == load_run(run).predict(Path(f"photos/{number}.png"))).all()


def test_a_bad_photo_is_one_line_and_the_code_says_so(run):
    Path("photos/1.png").write_text("hello")
    code, text = call("predict", run, "photos/*.png", "--overlay", "--confidence")
    lines = text.splitlines()
    assert code == 1
    assert lines[0].startswith("photos/1.png: no picture of a kind that is known here")
    assert lines[1].startswith("2 of 3 pictures: predictions")
    assert sorted(path.name for path in Path("predictions/overlays").iterdir()) == ["0.png", "2.png"]


def test_nothing_to_predict_is_wrong_use_before_anything_is_loaded(run, monkeypatch):
    assert "nowhere: no picture there" in refused("predict", "norun", "nowhere")
    assert not Path("predictions").exists()


def test_a_run_without_weights_is_one_line(run, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/run.json").write_bytes((Path(run) / "run.json").read_bytes())
    assert "has no weights (model.safetensors)" in refused("predict", "evidence", "photos")
    assert not Path("predictions").exists()


def test_a_folder_that_cannot_be_written_is_one_line(run):
    Path("predictions").write_text("in the way")
    assert refused("predict", run, "photos") == "error: --out predictions: expected a folder"


def test_changed_code_that_sees_something_else_is_told(run, monkeypatch):
    monkeypatch.setattr(LoadedRun, "compare", lambda _: Agreement(0.5, "the code"))
    code, text = call("predict", run, "photos")
    assert code == 0
    assert "the code changed since this run was trained, and 50.0% of the pixels of its first panel get another" in text
    monkeypatch.setattr(LoadedRun, "compare", lambda _: Agreement(command.ENOUGH, "the code"))
    assert "changed" not in call("predict", run, "photos")[1]


@pytest.fixture
def address(run) -> Iterator[str]:
    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory="photos")) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_addresses_are_predicted(run, address):
    code, text = call("predict", run, f"{address}/0.png", f"{address}/none.png", "photos/2.png")
    assert code == 1
    assert f"{address}/none.png: answers 404" in text
    assert sorted(path.name for path in Path("predictions/masks").iterdir()) == ["0.png", "2.png"]
    assert (Path("predictions/shares.csv").read_text().splitlines()[1]).startswith(f"{address}/0.png,masks/0.png,40,48")
