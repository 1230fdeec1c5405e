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
        ("image_scale", 1e-9), ("weak", {"scale": [1, 1e308]}), ("weak", {"scale": [1e-9, 1]}), ("steps", 2**70),
        ("strong", {"sigma": [1e-300, 1.0]}), ("strong", {"brightness": 1e308}), ("strong", {"contrast": 11}),
        ("optimiser", {"lr": 1e-300}), ("optimiser", {"lr": 1e308}), ("optimiser", {"momentum": 1.0}),
        ("optimiser", {"clip": 1e-300}), ("optimiser", {"power": 1e9}), ("optimiser", {"head_lr": 1e300}),
        ("net", {"pixel": {"width": 2**70}}), ("net", {"pixel": {"dropout": 1.0}}), ("net", {"backbone": ""}),
        ("net", {"weights": "a\0b"}), ("net", {"region": {"layers": 65}}), ("net", {"region": {"dim": 18}}),
        ("batch", {"labelled": 2**70}), ("batch", {"unlabelled": 2**70}), ("eval", {"batch": 2**70}),
        ("eval", {"evaluations": 2**70}), ("eval", {"scales": [1.0] * 300}), ("eval", {"scales": [1e308]}),
        ("eval", {"protocol": {"mode": "sliding", "window": [32, 32], "stride": 1e-9, "combine": "logits"}}),
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
        ("workers", "many"), ("workers", True),
        ("devices", 2**70), ("threads", 2**70), ("cache_mb", 2**70), ("checkpoint_every", 2**70), ("log_every", 2**70),
        ("checkpoint_minutes", -1), ("checkpoint_minutes", 1e308), ("share_minutes", -1),
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
    [("seed", [2**70]), ("split", ["--help"]), ("split", ["1_16'"]), ("split", ["x" * 300]),
     ("seed", list(range(10_001))),
     ("seed", [-1]), ("seed", []), ("seed", ["0"]), ("method", ["supervised"]), ("method", ["../x/y"]),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"net": {"region": {"heads": 3}}},
            "net.region: dim: 16 channels cannot be shared by 3 heads",
        ),
        ({"optimiser": {"lr": 1.0, "weight_decay": 0.5}}, "optimiser: lr · head_lr · weight_decay is 1: from 1 on"),
        ({"batch": {"labelled": 4096}, "crop": [2048, 2048]}, "a batch of 4100 crops of [2048, 2048] has more than"),
        (
            {"image_scale": 0.02, "weak": {"scale": [0.5, 1.0]}},
            "times weak.scale or eval.scales is 0.01 to",
        ),
        ({"image_scale": 4, "eval": {"scales": [20.0]}}, "image_scale times weak.scale or eval.scales is 2.8 to 80"),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(tmp_path, change, message):
    assert message in refused(tmp_path, protocol={"default": change})


def test_a_grid_that_nobody_can_carry_out_is_refused(tmp_path):
    message = refused(tmp_path, grid={"seed": list(range(200)), "split": [f"1_{i}" for i in range(1, 101)]})
    assert message.startswith("grid: has 20,000 cells, at most 10,000 are meant to be here")


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
