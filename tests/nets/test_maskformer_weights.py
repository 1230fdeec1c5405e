"""RegionNet is MaskFormer: with the weights of transformers' own model both see the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from method_data import make_protocol
from safetensors.torch import load_file, save_file

from rc2l_bench.errors import UsageError
from rc2l_bench.nets.lattice import PIXELS, resample
from rc2l_bench.nets.maskformer_weights import load_maskformer, read_maskformer, rename
from rc2l_bench.nets.pixel_net import PixelNet
from rc2l_bench.nets.region_net import RegionNet, encode_position
from rc2l_bench.nets.weights import find_weights

CLASSES = 5
KINDS = {"resnet18": ("basic", [64, 128, 256, 512]), "resnet26": ("bottleneck", [256, 512, 1024, 2048])}
"""timm's name, and the block and widths of transformers' ResNet of the same form."""
DIM, LAYERS = 64, 3


@dataclass
class Made:
    """A random model of transformers, the file it was saved to, and our name of its backbone."""

    model: Any
    file: Path
    backbone: str


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    import transformers  # takes seconds

    block, widths = KINDS[request.param]
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = transformers.ResNetConfig(
        embedding_size=64, hidden_sizes=widths, depths=[2, 2, 2, 2], layer_type=block, out_features=stages
    )
    decoder = transformers.DetrConfig(
        d_model=DIM, num_queries=7, decoder_layers=LAYERS, encoder_layers=0,
        decoder_attention_heads=4, encoder_attention_heads=4, decoder_ffn_dim=48, encoder_ffn_dim=48,
    )  # fmt: skip
    config = transformers.MaskFormerConfig(
        fpn_feature_size=DIM, mask_feature_size=DIM, backbone_config=backbone, decoder_config=decoder,
        num_labels=CLASSES,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MaskFormerForInstanceSegmentation(config)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                tensor += 0.1 * torch.randn_like(tensor)  # what is zero would hide that it is lost
            if name.endswith(("norm.weight", "normalization.weight", "running_var")):
                tensor += 0.2 * torch.rand_like(tensor)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    return Made(model.eval(), folder / "model.safetensors", request.param)


def net_of(made: Made, weights: str = "", **changes: Any) -> Any:
    """Our configuration of the same network; keys of `changes` are those of `net`."""
    region = {"queries": 7, "dim": DIM, "layers": LAYERS, "heads": 4, "feedforward": 48, "dropout": 0.0}
    values = {"backbone": made.backbone, "weights": weights or f"maskformer:{made.file}", "output_stride": 32}
    values |= {f"region__{key}": value for key, value in region.items()} | changes
    return make_protocol(**{f"net__{key}": value for key, value in values.items()}).net


def normalised(net: RegionNet, image: torch.Tensor) -> torch.Tensor:
    """An image as transformers' models want it."""
    return (image - net.backbone.mean) / net.backbone.std


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (128, 128)])
def test_class_logits_and_masks_are_those_of_transformers_model(made, size):
    net = RegionNet(net_of(made), CLASSES).eval()
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        theirs, seen = made.model(normalised(net, image)), net.segment(image)
    assert theirs.class_queries_logits.std() > 0.1
    torch.testing.assert_close(seen.logits[:, -1], theirs.class_queries_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.mask(), theirs.masks_queries_logits, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_semantic_inference_is_that_of_maskformer(made):
    net = RegionNet(net_of(made), CLASSES).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        theirs, ours = made.model(normalised(net, image)), net(image)
        # Between the cells of a map we interpolate from where they lie in the image, which is not half-pixel centres.
        mask = resample(theirs.masks_queries_logits, net.backbone.lattices[0], PIXELS, (64, 96)).sigmoid()
        classes = theirs.class_queries_logits.softmax(-1)[..., :-1]
        scores = torch.einsum("bqk,bqhw->bkhw", classes, mask)
    torch.testing.assert_close(ours.exp(), scores, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "dim"), [(3, 5, 24), (17, 33, 256), (1, 1, 8)])
def test_positions_are_encoded_as_in_maskformer(height, width, dim):
    from transformers.models.maskformer.modeling_maskformer import MaskFormerSinePositionEmbedding

    encoder = MaskFormerSinePositionEmbedding(num_position_features=dim // 2, normalize=True)
    theirs = encoder(torch.Size((1, dim, height, width)), torch.device("cpu"), torch.float32)
    expected = theirs.view(dim, height * width).T
    torch.testing.assert_close(encode_position(height, width, dim), expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_every_tensor_of_the_checkpoint_is_used(made):
    net = RegionNet(net_of(made), CLASSES)
    left_out = set(read_maskformer(made.file)) - set(net.state_dict())
    assert left_out - {"criterion.empty_weight"} == set()


@pytest.mark.slow
def test_a_pixel_network_takes_the_backbone(made):
    net, whole = PixelNet(net_of(made), CLASSES), RegionNet(net_of(made), CLASSES)
    pairs = zip(net.backbone.state_dict().values(), whole.backbone.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_another_number_of_classes_leaves_the_class_head_as_it_was_drawn(made):
    nets = []
    for weights in ("none", ""):
        torch.manual_seed(3)
        nets.append(RegionNet(net_of(made, weights), CLASSES + 1))
    assert torch.equal(nets[0].classify.weight, nets[1].classify.weight)
    assert not torch.equal(nets[0].queries.query, nets[1].queries.query)


@pytest.mark.slow
def test_of_more_queries_the_first_are_taken(made):
    net = RegionNet(net_of(made, region__queries=5), CLASSES)
    assert torch.equal(net.queries.query, made.model.model.transformer_module.queries_embedder.weight[:5])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"region__queries": 9}, r"needed 'queries.query' of \[9, 64\], found one of \[7, 64\]"),
        ({"region__layers": 4}, r"needed 'queries.layers.3.*found none"),
        ({"region__dim": 32}, r"found one of \[64"),
        ({"backbone": "resnet14t"}, "needed 'backbone.features.conv1.0.weight'.*found none: set net.backbone"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_in_one_line(made, changes, text):
    with pytest.raises(UsageError, match=text) as caught:
        RegionNet(net_of(made, **changes), CLASSES)
    assert "\n" not in str(caught.value)


def test_both_spellings_of_transformers_are_read():
    stem = "model.transformer_module.decoder.layers.4."
    for theirs in ("self_attn.o_proj.bias", "self_attn.out_proj.bias"):
        assert rename(stem + theirs) == "queries.layers.4.among.out_proj.bias"
    for theirs in ("mlp.fc2.weight", "fc2.weight"):
        assert rename(stem + theirs) == "queries.layers.4.feedforward.3.weight"


def test_a_damaged_checkpoint_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        read_maskformer(file)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="no MaskFormer in transformers' layout"):
        load_maskformer(torch.nn.Linear(1, 1), tmp_path / "model.safetensors")


@pytest.mark.parametrize("where", ["path", "data/weights", "RC2L_BENCH_WEIGHTS"])
def test_a_checkpoint_is_found_by_path_and_by_name(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RC2L_BENCH_WEIGHTS", str(tmp_path / "mine"))
    folder = {"path": ".", "data/weights": "data/weights", "RC2L_BENCH_WEIGHTS": "mine"}[where]
    Path(folder).mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(1)}, Path(folder, "coco.safetensors"))
    found = find_weights(make_protocol(net__weights="maskformer:coco.safetensors").net)
    assert found is not None
    assert load_file(found).keys() == {"a"}


def test_a_checkpoint_that_is_nowhere_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no file coco.safetensors, nor is it in one of"):
        find_weights(make_protocol(net__weights="maskformer:coco.safetensors").net)
