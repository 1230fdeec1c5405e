from __future__ import annotations

import pytest
import tiny_data
from config_data import refused, refused_protocol

from rc2l_bench.config import Grid, Params, load
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import read_yaml


def test_params_of_the_checkout_are_read():
    params = load(Params, tiny_data.ROOT / "params.yaml")
    assert {"shapes", "camvid", "voc", "cityscapes", "ade20k", "coco_instances", "default"} == set(params.protocol)


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


@pytest.mark.parametrize("names", [["fog"], ["blur", "blur"], "blur"])
def test_an_unknown_corruption_is_refused_by_name(tmp_path, names):
    assert refused(tmp_path, eval={"corruptions": names}).startswith("eval.corruptions")


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


def test_every_grid_of_the_checkout_is_one(tmp_path):
    for name, grid in read_yaml(tiny_data.ROOT / "params.yaml")["grids"].items():
        tiny_data.write_yaml(tmp_path / name, grid)
        assert isinstance(load(Grid, tmp_path / name), Grid)
