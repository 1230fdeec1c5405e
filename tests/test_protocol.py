from __future__ import annotations

import pytest
import tiny_data
from config_data import refused, refused_protocol

from rc2l_bench.config import CenterCrop, Protocol, Sliding, Whole


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
