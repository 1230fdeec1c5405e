from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest
import timm
import tiny_data
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from rc2l_bench.config import NetConfig
from rc2l_bench.errors import UsageError
from rc2l_bench.nets import weights as places
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.weights import find_weights

IMAGENET = "imagenet"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No weights are in reach, wherever the tests run."""
    monkeypatch.delenv(places.WEIGHTS_VARIABLE, raising=False)
    monkeypatch.delenv(places.MIRROR_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def config(**changes) -> NetConfig:
    return tiny_data.protocol(net=changes).net


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights of test_resnet in timm's layout."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file({k: v + 1 for k, v in timm.create_model("test_resnet").state_dict().items()}, path)
    return path


def test_weights_of_a_file_are_loaded(weights):
    backbone = Backbone(config(weights=str(weights)))
    stored = load_file(weights)
    mine = backbone.features.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in mine.items())
    assert len(mine) > 10


def test_weights_of_a_plain_transformer_are_loaded_with_its_last_norm(tmp_path):
    torch.manual_seed(7)
    stored = {name: value + 1 for name, value in timm.create_model("test_vit").state_dict().items()}
    save_file(stored, tmp_path / "vit.safetensors")
    backbone = Backbone(config(backbone="test_vit", output_stride=32, weights="vit.safetensors"))
    mine = backbone.features.state_dict()
    assert {"model.norm.weight", "model.pos_embed", "model.blocks.5.mlp.fc2.weight"} <= mine.keys()
    assert all(torch.equal(value, stored[name.removeprefix("model.")]) for name, value in mine.items())


def test_imagenet_weights_are_found_by_variable(weights, monkeypatch):
    monkeypatch.setenv(places.WEIGHTS_VARIABLE, str(weights.parent))
    assert find_weights(config(weights=IMAGENET)) == weights


def test_imagenet_weights_are_found_in_the_data_folder(weights, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/weights").symlink_to(weights.parent)
    assert find_weights(config(weights=IMAGENET)) == Path("data/weights/test_resnet.safetensors")


@pytest.mark.parametrize("place", [".", "../weights"])
def test_imagenet_weights_are_found_in_or_beside_the_mirror(weights, tmp_path, monkeypatch, place):
    mirror = tmp_path / "shared/mirror"
    mirror.mkdir(parents=True)
    (mirror / place).resolve().mkdir(exist_ok=True)
    (mirror / place / "test_resnet.safetensors").resolve().write_bytes(weights.read_bytes())
    monkeypatch.setenv(places.MIRROR_VARIABLE, str(mirror))
    found = find_weights(config(weights=IMAGENET))
    assert found is not None
    assert found.read_bytes() == weights.read_bytes()


def test_a_folder_is_searched_once(tmp_path, monkeypatch):
    monkeypatch.setenv(places.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    monkeypatch.setenv(places.WEIGHTS_VARIABLE, str(tmp_path / "weights"))
    assert places.weight_folders() == [tmp_path / "weights", Path("data/weights"), tmp_path / "mirror"]


def test_a_mirror_on_the_web_is_no_folder(monkeypatch):
    monkeypatch.setenv(places.MIRROR_VARIABLE, "https://example.org/mirror")
    assert find_weights(config(weights=IMAGENET)) is None


def test_no_weights_need_no_file():
    assert find_weights(config(weights="none")) is None


def test_a_missing_file_is_told():
    with pytest.raises(UsageError, match=r"net\.weights: there is no file nowhere\.safetensors"):
        Backbone(config(weights="nowhere.safetensors"))


def test_weights_out_of_reach_are_told_with_the_places_that_were_searched():
    with pytest.raises(UsageError, match=r"test_resnet\.safetensors is in none of data/weights.*RC2L_BENCH_WEIGHTS"):
        Backbone(config(weights=IMAGENET))


def test_a_hub_out_of_reach_is_asked_once(monkeypatch):
    """Whoever listens there hangs up; timm would try for most of a minute."""
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    connection, address = server.accept()
                    asked.append(address)  # before whoever asked can know that this is over
                    connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(UsageError, match=r"test_resnet\.safetensors is in none of data/weights"):
            Backbone(config(weights=IMAGENET))
    assert len(asked) == 1


def test_weights_of_another_network_are_told(weights):
    with pytest.raises(UsageError, match=r"^net\.weights: .*test_resnet\.safetensors"):
        Backbone(config(backbone="resnet18", weights=str(weights)))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_of_weights_is_told(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match=r"^net\.weights: .*x\.safetensors"):
        Backbone(config(weights="x.safetensors"))


def test_a_pickle_is_not_taken_for_weights(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"^net\.weights: .*x\.pth"):
        Backbone(config(weights="x.pth"))


def test_the_imagenet_weights_of_the_camvid_recipe_load():
    file = tiny_data.ROOT.parent / "shared/weights/mobilenetv2_100.safetensors"
    if not file.is_file():
        pytest.skip(f"{file} is not here: ImageNet weights are not part of the repository")
    backbone = Backbone(config(backbone="mobilenetv2_100", weights=str(file)))
    stored = load_file(file)
    assert torch.equal(backbone.features.state_dict()["conv_stem.weight"], stored["conv_stem.weight"])


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100", "convnext_atto", "efficientnet_b0"])
def test_the_names_in_the_weights_of_other_backbones_are_understood(tmp_path, backbone):
    stored = timm.create_model(backbone).state_dict()
    save_file({name: value for name, value in stored.items() if "num_batches" not in name}, tmp_path / "x.safetensors")
    features = Backbone(config(backbone=backbone, output_stride=32, weights="x.safetensors")).features
    first = next(iter(stored))
    assert any(torch.equal(value, stored[first]) for value in features.state_dict().values())
