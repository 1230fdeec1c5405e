from __future__ import annotations

import pytest
import tiny_data
import torch
from safetensors.torch import save_file

from rc2l_bench.run.cell import open_cell
from rc2l_bench.sources import digest_file


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    tiny_data.write_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def provenance(root, weights):
    """That of a cell whose network starts from some weights."""
    tiny_data.write_yaml(root / "params.yaml", tiny_data.params(protocol={"default": {"net": {"weights": weights}}}))
    plan = root / "data/splits/tiny/1_4.json"
    return open_cell("tiny", "1_4", "baselines/supervised", 0, root / "data/shards/tiny", plan).provenance()


@pytest.mark.parametrize("weights", ["coco.safetensors", "maskformer:coco.safetensors"])
def test_a_run_is_named_after_the_bytes_of_its_weights(checkout, weights):
    file = checkout / "coco.safetensors"
    found = []
    for value in (0.0, 1.0):
        save_file({"a": torch.tensor([value])}, file)
        found.append(provenance(checkout, weights))
        assert found[-1]["weights"] == digest_file(file)
    assert found[0]["fingerprint"] != found[1]["fingerprint"]
    assert found[0]["protocol"]["net"]["weights"] == weights


def test_without_weights_provenance_says_so(checkout):
    assert provenance(checkout, "none")["weights"] == "none"
