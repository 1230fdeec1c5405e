"""What is said of a backbone before anything is trained."""

from __future__ import annotations

import pytest

from rc2l_bench.errors import UsageError
from rc2l_bench.nets.backbone import Backbone
from rc2l_bench.nets.examination import CROPS, _net, examine


def told(name: str) -> dict[str, str]:
    return dict(examine(name))


@pytest.mark.parametrize(("name", "strides", "behind"), [
    ("test_resnet", "32, 16, 8", "DeepLabv3+ and MaskFormer's pixel decoder"),
    ("pvt_v2_b0", "32", "DeepLabv3+ and MaskFormer's pixel decoder"),
    ("test_vit", "32", "DPT's reassembly to 4, 8, 16, 32"),
])  # fmt: skip
def test_output_strides_are_those_that_a_net_can_be_built_with(name, strides, behind):
    found = told(name)
    assert (found["net.output_stride may be"], found["behind it"]) == (strides, behind)
    for stride in (32, 16, 8):
        if str(stride) in strides.split(", "):
            Backbone(_net(name, stride))
        else:
            with pytest.raises(UsageError):
                Backbone(_net(name, stride))


def test_levels_and_parameters_are_those_of_the_network():
    backbone, found = Backbone(_net("test_resnet")), told("test_resnet")
    shown = [
        f"{lattice.stride:g} ({count})" for lattice, count in zip(backbone.lattices, backbone.channels, strict=True)
    ]
    assert found["strides of its levels (channels)"] == ", ".join(shown)
    assert int(found["parameters"].replace(",", "")) == sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_nearest_good_crops_are_good(name):
    sizes = Backbone(_net(name)).sizes
    pairs = [pair.split(" → ") for pair in told(name)["nearest good crops"].split(", ")]
    assert [int(crop) for crop, _ in pairs] == list(CROPS)
    assert all(sizes.nearest(int(good)) == int(good) for _, good in pairs)


def test_weights_that_are_here_are_named_by_their_file(tmp_path, monkeypatch):
    monkeypatch.setenv("RC2L_BENCH_WEIGHTS", str(tmp_path))
    assert told("test_resnet")["weights"].startswith("not here: test_resnet.safetensors is looked for, else timm")
    (tmp_path / "test_resnet.safetensors").touch()
    assert told("test_resnet")["weights"] == str(tmp_path / "test_resnet.safetensors")


def test_weights_that_nobody_has_trained_are_said_to_be_unknown():
    assert told("ghostnet_050")["weights"] == "none are known to timm"


def test_a_name_that_timm_does_not_know_is_told():
    with pytest.raises(UsageError, match="no_such_net"):
        examine("no_such_net")
