from __future__ import annotations

from pathlib import Path

import pytest
import tiny_data

from rc2l_bench.config import CenterCrop, Grid, Params, Protocol, Sliding, Views, Whole, load
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import read_yaml


def refused(folder: Path, **changes) -> str:
    tiny_data.write_yaml(folder / "params.yaml", tiny_data.params(**changes))
    with pytest.raises(UsageError) as caught:
        load(Params, folder / "params.yaml")
    return str(caught.value).removeprefix(f"{folder / 'params.yaml'}: ")


def refused_protocol(folder: Path, **changes) -> str:
    return refused(folder, protocol={"default": changes}).removeprefix("protocol.default.")


def test_params_of_the_checkout_are_read():
    params = load(Params, tiny_data.ROOT / "params.yaml")
    assert {"shapes", "camvid", "voc", "cityscapes", "default"} == set(params.protocol)


def test_the_tiny_params_are_read(tmp_path):
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params())
    assert load(Params, tmp_path / "params.yaml").protocol["default"] == tiny_data.protocol()


def test_all_split_names_of_the_checkout_are_quoted():
    grids = read_yaml(tiny_data.ROOT / "params.yaml")["grids"]
    assert all(isinstance(name, str) for grid in grids.values() for name in grid["split"])


def test_an_unquoted_split_in_the_grid_tells_to_quote(tmp_path):
    message = refused(tmp_path, grid={"split": [116]})
    assert message.startswith("grid.split.0: ")
    assert "YAML reads an unquoted 1_16 as 116" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0), ("steps", -1), ("steps", 10**9), ("steps", 1.5), ("image_scale", 0), ("image_scale", 100),
        ("crop", [4, 32]), ("crop", [32, 100_000]), ("crop", [32]), ("supervised_loss", "mse"),
        ("batch", {"labelled": 0}), ("batch", {"unlabelled": 3}), ("batch", {"unlabelled": -2}),
        ("weak", {"flip": 1.5}), ("weak", {"flip": -0.1}), ("weak", {"scale": [0, 1]}), ("weak", {"scale": [2.0, 0.5]}),
        ("strong", {"hue": 0.7}), ("strong", {"brightness": -1}), ("strong", {"sigma": [0, 1]}),
        ("strong", {"sigma": [0.1, 40.0]}), ("strong", {"sigma": [2.0, 1.0]}), ("strong", {"grey": 2}),
        ("optimiser", {"lr": 0}), ("optimiser", {"lr": -1e-3}), ("optimiser", {"lr": "1e-3"}),
        ("optimiser", {"name": "adam"}), ("optimiser", {"weight_decay": -1}), ("optimiser", {"momentum": 1.2}),
        ("optimiser", {"clip": -1}), ("net", {"output_stride": 12}), ("net", {"pixel": {"width": 0}}),
        ("net", {"pixel": {"rates": [1, 2]}}), ("net", {"backbone": 50}),
        ("eval", {"scales": []}), ("eval", {"scales": [0.0]}), ("eval", {"evaluations": 0}), ("eval", {"batch": 0}),
        ("eval", {"protocol": {"mode": "wohle"}}), ("eval", {"protocol": {"mode": "sliding"}}),
        ("eval", {"protocol": {"mode": "whole", "window": [32, 32]}}),
    ],
)  # fmt: skip
def test_an_absurd_protocol_is_refused_by_name(tmp_path, key, value):
    message = refused_protocol(tmp_path, **{key: value})
    assert message.removeprefix("protocol.default: ").startswith(key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", "gpu"), ("devices", 0), ("precision", "fp16"), ("threads", 0), ("workers", -1), ("workers", 1000),
        ("cache_mb", -1), ("checkpoint_every", 0), ("log_every", 0), ("deterministic", "yes"),
        ("trackers", ["mlflow", "mlflow"]),
    ],
)  # fmt: skip
def test_an_absurd_runtime_is_refused_by_name(tmp_path, key, value):
    assert refused(tmp_path, runtime={key: value}).startswith(f"runtime.{key}: ")


def test_an_unknown_tracker_is_refused_with_the_known_ones(tmp_path):
    said = refused(tmp_path, runtime={"trackers": ["tensorboard", "comet"]})
    assert said.startswith("runtime.trackers.1: ")
    assert "'dvclive', 'tensorboard', 'mlflow' or 'wandb'" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", [-1]), ("seed", []), ("seed", ["0"]), ("method", ["supervised"]), ("method", ["../x/y"]),
     ("dataset", [""]), ("split", ["../1_4"]), ("dataset", ["a/b"]), ("split", []),
     ("seed", [0, 0]), ("split", ["1_4", "1_4"])],
)  # fmt: skip
def test_an_absurd_grid_is_refused_by_name(tmp_path, key, value):
    assert refused(tmp_path, grid={key: value}).startswith(f"grid.{key}")


def test_a_variant_may_stand_in_the_grid(tmp_path):
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params(grid={"method": ["baselines/cps+plain"]}))
    assert load(Params, tmp_path / "params.yaml").grid.method == ["baselines/cps@plain"]


def test_a_variant_that_dvc_cannot_read_is_spelled_for_the_user(tmp_path):
    message = refused(tmp_path, grid={"method": ["baselines/cps@plain"]})
    assert message == "grid.method: write baselines/cps+plain for baselines/cps@plain: DVC reads @ in its own way"


def test_an_unknown_key_of_a_protocol_names_the_nearest(tmp_path):
    message = refused_protocol(tmp_path, optimiser={"learning_rate": 1.0, "weight_decoy": 0.1})
    assert "unknown key" in message
    assert refused_protocol(tmp_path, weak={"filp": 0.5}) == "weak.filp: unknown key; did you mean 'flip'?"


def test_an_unknown_key_of_a_chosen_form_names_the_nearest_there(tmp_path):
    form = {"mode": "sliding", "window": [32, 32], "stride": 0.5, "combine": "logits", "windov": [1, 1]}
    assert "did you mean 'window'?" in refused_protocol(tmp_path, eval={"protocol": form})


def test_a_dataset_without_a_protocol_uses_the_default(tmp_path):
    other = tiny_data.merged(tiny_data.PROTOCOL, {"steps": 99})
    tiny_data.write_yaml(tmp_path / "params.yaml", tiny_data.params(protocol={"voc": other}))
    params = load(Params, tmp_path / "params.yaml")
    assert params.protocol_of("voc").steps == 99
    assert params.protocol_of("mine").steps == tiny_data.PROTOCOL["steps"]


def test_no_protocol_and_no_default_is_told(tmp_path):
    changed = tiny_data.params()
    changed["protocol"] = {"voc": tiny_data.PROTOCOL}
    tiny_data.write_yaml(tmp_path / "params.yaml", changed)
    with pytest.raises(UsageError, match="neither 'mine' nor 'default'"):
        load(Params, tmp_path / "params.yaml").protocol_of("mine")


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"mode": "whole"}, Whole),
        ({"mode": "sliding", "window": [32, 32], "stride": 0.6667, "combine": "softmax"}, Sliding),
        ({"mode": "center_crop", "window": [32, 32]}, CenterCrop),
    ],
)
def test_the_mode_chooses_the_evaluation_protocol(form, kind):
    assert isinstance(tiny_data.protocol(eval={"protocol": form}).eval.protocol, kind)


def test_a_protocol_survives_json():
    protocol = tiny_data.protocol()
    assert Protocol.model_validate_json(protocol.model_dump_json()) == protocol


def test_a_configuration_cannot_be_changed(protocol):
    with pytest.raises(ValueError, match="frozen"):
        protocol.steps = 3


@pytest.mark.parametrize("change", [{"boxes": 0}, {"boxes": 9}, {"area": [0.0, 1.5]}, {"area": [0.5, 0.2]},
                                    {"ratio": [0, 1]}, {"ratio": [2.0, 0.5]}, {"probability": 2}])  # fmt: skip
def test_absurd_boxes_are_refused(change):
    with pytest.raises(ValueError, match="validation error"):
        tiny_data.views(**change)


def test_there_are_at_most_four_strong_views():
    with pytest.raises(ValueError, match="less than or equal to 4"):
        tiny_data.views(strong=5)
    assert isinstance(tiny_data.views(strong=4), Views)


def test_every_grid_of_the_checkout_is_one(tmp_path):
    for name, grid in read_yaml(tiny_data.ROOT / "params.yaml")["grids"].items():
        tiny_data.write_yaml(tmp_path / name, grid)
        assert isinstance(load(Grid, tmp_path / name), Grid)
