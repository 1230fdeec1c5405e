from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import run_data
import tiny_data
import torch
from PIL import Image

import rc2l_bench
from rc2l_bench import load_run
from rc2l_bench.data.datasets.registry import load_dataset
from rc2l_bench.data.shards import Shards
from rc2l_bench.deployment.loading import MethodNetwork
from rc2l_bench.errors import BenchError, UsageError
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet
from rc2l_bench.seals import FILES, list_files, read_record, seal


@pytest.fixture
def copied(tmp_path, pixel_run) -> Path:
    """A result alone, somewhere else."""
    return Path(shutil.copytree(pixel_run, tmp_path / "result"))


def rewrite(folder: Path, **changes) -> None:
    """Write run.json anew, with a valid seal."""
    record, _ = read_record(folder)
    content = {name: value for name, value in (record | changes).items() if value is not None}
    (folder / "run.json").unlink()
    (folder / "run.json").write_bytes(seal({**content, FILES: list_files(folder)}, indent=2))


def test_three_lines_give_network_classes_and_predictions(pixel_run):
    run = load_run(str(pixel_run))
    photo = tiny_data.make_sample("val", 0).image
    (pixel_run.parent / "photo.png").write_bytes(photo)
    classes = run.predict(pixel_run.parent / "photo.png")
    assert run.classes == list(tiny_data.CLASSES)
    assert run.palette == [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    assert classes.shape == (33, 48)
    assert classes.dtype == np.uint8
    assert classes.max() < 3
    assert not run.network.training


@pytest.mark.parametrize("kind", ["pixel_run", "region_run", "ensemble_run"])
def test_a_loaded_network_sees_what_the_run_saw(request, kind):
    """Every panel of the run, to the pixel."""
    folder = request.getfixturevalue(kind)
    run = load_run(folder)
    panels = sorted((folder / "panels").glob("*.image.png"))
    assert len(panels) == 5
    for panel in panels:
        stored = np.array(Image.open(str(panel).replace(".image.", ".prediction.")))
        assert (run.predict(panel) == stored).all()


@pytest.mark.parametrize("kind", ["pixel_run", "region_run", "ensemble_run"])
def test_a_loaded_network_has_the_score_of_the_run(request, trained, kind):
    folder = request.getfixturevalue(kind)
    run, shards = load_run(folder), Shards(trained / "data/shards/tiny/val")
    counts = np.zeros((3, 3), int)
    for position in range(len(shards)):
        truth, guess = shards.read_mask(position), run.predict(shards.read_image(position))
        np.add.at(counts, (truth[truth < 255], guess[truth < 255]), 1)
    hit = np.diag(counts)
    miou = (hit / (counts.sum(0) + counts.sum(1) - hit)).mean()
    assert miou == pytest.approx(json.loads((folder / "metrics.json").read_text())["miou"])


def test_networks_are_what_they_were(pixel_run, region_run, ensemble_run):
    kinds = [type(load_run(folder).network) for folder in (pixel_run, region_run, ensemble_run)]
    assert kinds == [PixelNet, RegionNet, MethodNetwork]


def test_probabilities_sum_to_one_and_agree_with_the_prediction(region_run):
    run, image = load_run(region_run), np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    found = run.probabilities(image)
    assert found.shape == (3, 40, 56)
    assert found.sum(0) == pytest.approx(1.0)
    assert (found.argmax(0) == run.predict(image)).all()


def test_painting_shows_the_palette(pixel_run):
    painted = load_run(pixel_run).paint(np.array([[0, 1], [2, 1]], np.uint8))
    assert painted.tolist() == [[[0, 0, 0], [255, 0, 0]], [[0, 0, 255], [255, 0, 0]]]


def test_a_result_alone_is_enough(copied):
    """Without the code of its method, the data, or weights that its backbone began with."""
    code = (
        "import sys, numpy as np; from rc2l_bench import load_run\n"
        "found = load_run('result').predict(np.zeros((32, 32, 3), np.uint8))\n"
        "print(found.shape, 'baselines' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    env = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tiny_data.ROOT)}
    done = subprocess.run(command, cwd=copied.parent, env=env, capture_output=True, text=True)
    assert done.stdout == "(32, 32) False\n", done.stderr


def test_the_code_of_a_method_is_found_above_its_run(tmp_path, ensemble_run):
    (tmp_path / "rc2l_bench").symlink_to(tiny_data.ROOT / "rc2l_bench")
    code = (
        "import importlib.util, sys; from pathlib import Path\n"
        "sys.path = [p for p in sys.path if p and not (Path(p) / 'baselines').is_dir()]\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from rc2l_bench import load_run\n"
        "print(importlib.util.find_spec('baselines'))\n"
        f"load_run({str(ensemble_run)!r}); print(sys.modules['baselines.cps'].__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"None\n{ensemble_run.parents[5] / 'baselines/cps.py'}\n", done.stderr


def test_pretrained_weights_need_not_be_there_any_more(copied):
    record, _ = read_record(copied)
    protocol = tiny_data.merged(record["protocol"], {"net": {"weights": "gone.safetensors"}})
    rewrite(copied, protocol=protocol)
    assert load_run(copied).protocol.net.weights == "none"


def test_a_run_before_networks_were_named_is_loaded_by_its_method(copied, trained, monkeypatch):
    monkeypatch.chdir(trained)
    rewrite(copied, network=None)
    found = load_run(copied)
    assert isinstance(found.network, MethodNetwork)
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    named = load_run(trained / "runs/tiny/1_4/baselines/supervised/seed0")
    assert (found.predict(image) == named.predict(image)).all()


def test_loading_moves_no_generator(region_run, ensemble_run):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_run(region_run)
    load_run(ensemble_run)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_canvas_that_is_only_a_bound_is_no_size_of_an_image(pixel_run):
    ade, run = load_dataset("ade20k"), load_run(pixel_run)
    known = replace(run, record=run.record | {"dataset": ade.meta()})
    assert (known.usual, known.canvas) == (ade.usual, ade.canvas)
    assert run.usual == run.canvas


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"no finished run: there is no run\.json: give the folder of a result"):
        load_run(tmp_path)
    with pytest.raises(UsageError, match="nowhere: no finished run"):
        load_run(tmp_path / "nowhere")


def test_a_run_without_weights_is_told(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no weights \(model\.safetensors\)") as caught:
        load_run(copied)
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_weights_are_told(copied):
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "model.safetensors").write_bytes(data)
    with pytest.raises(BenchError, match=r"model\.safetensors: has changed since it was written"):
        load_run(copied)


def test_weights_of_another_code_are_told(copied):
    record, _ = read_record(copied)
    rewrite(copied, protocol=tiny_data.merged(record["protocol"], {"net": {"pixel": {"width": 24}}}))
    with pytest.raises(BenchError, match="does not fit the code that is installed, which has changed since") as caught:
        load_run(copied)
    assert len(str(caught.value).splitlines()) == 1


def test_a_record_of_another_version_is_told(copied):
    rewrite(copied, protocol=None)
    with pytest.raises(BenchError, match=r"run\.json: has no protocol: of another version\?"):
        load_run(copied)


def test_a_method_that_is_nowhere_is_told(copied, tmp_path, monkeypatch):
    record, _ = read_record(copied)
    rewrite(copied, network=None, cell=record["cell"] | {"method": "baselines/lost"})
    with pytest.raises(UsageError, match=r"needs the code of baselines/lost, and there is no baselines/lost\.py here"):
        load_run(copied)


@pytest.mark.parametrize("name", ["warp", "cuda:99"])
def test_a_device_that_is_not_there_is_told(pixel_run, name):
    with pytest.raises(UsageError, match=f"^device '{name}': not on this machine: expected auto, cpu"):
        load_run(pixel_run, name)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_an_array_that_is_no_image_is_told(pixel_run, wrong):
    with pytest.raises(UsageError, match=r"an image is an array \(H, W, 3\) of uint8, got"):
        load_run(pixel_run).predict(wrong)


def test_nothing_is_compared_while_nothing_has_changed(pixel_run, trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert load_run(pixel_run).compare() == (1.0, "")


def test_what_has_changed_is_compared_with_the_runs_own_picture(copied):
    rewrite(copied, source="0" * 64, versions={"torch": "1.0"})
    assert load_run(copied).compare() == (1.0, "the code and versions of packages")
    panel = next((copied / "panels").glob("0-*.prediction.png"))
    stored = Image.open(panel)
    other = Image.fromarray((np.array(stored) + 1).astype(np.uint8) % 3)
    other.putpalette(stored.getpalette())
    other.save(panel)
    assert load_run(copied).compare().same == 0.0


def test_a_run_of_sliding_windows_predicts_by_windows(trained, monkeypatch):
    window = {"mode": "sliding", "window": [32, 32], "stride": 0.5, "combine": "softmax"}
    changes = {"default": {"eval": {"protocol": window}, "steps": 2}}
    folder = run_data.train(trained, "baselines/supervised", seed=1, protocol=changes)
    run = load_run(folder)
    seen = []
    run.network.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:])))
    run.predict(np.zeros((40, 48, 3), np.uint8))
    assert seen == [(32, 32)] * 4


def test_the_package_starts_without_torch_and_has_no_other_attributes():
    code = "import sys, rc2l_bench; print('torch' in sys.modules, hasattr(rc2l_bench, 'load_runs'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    assert rc2l_bench.load_run is load_run
