from __future__ import annotations

import json
import re

import pytest
import tiny_data

from rc2l_bench.cluster import ClusterConfig, load_cluster
from rc2l_bench.config import Runtime
from rc2l_bench.errors import UsageError
from rc2l_bench.schema import read_yaml

PLAIN = read_yaml(tiny_data.ROOT / "cluster.yaml")
RUNTIME = Runtime.model_validate_json(json.dumps(tiny_data.RUNTIME))


def read(folder, **changes) -> ClusterConfig:
    tiny_data.write_yaml(folder / "cluster.yaml", PLAIN | changes)
    return load_cluster(RUNTIME, folder / "cluster.yaml")


def test_the_file_of_the_checkout_is_right():
    assert load_cluster(RUNTIME, tiny_data.ROOT / "cluster.yaml").processes == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [("partition", "-rf"), ("partition", "a b"), ("account", "x\ny"), ("gpus", -1), ("hours", 0), ("memory_gb", 0),
     ("setup", ["a\nb"]), ("options", ["rm -rf"]), ("options", ["--a\nb"]), ("walltime", 3)],
)  # fmt: skip
def test_what_is_no_value_is_refused_by_its_key(tmp_path, key, value):
    with pytest.raises(UsageError, match=rf"cluster.yaml: {key}"):
        read(tmp_path, **{key: value})


def test_names_of_several_partitions_are_taken(tmp_path):
    assert read(tmp_path, partition="gpu_4,gpu-8.long").partition == "gpu_4,gpu-8.long"


def test_another_number_of_processes_than_params_yaml_says_is_refused(tmp_path):
    with pytest.raises(UsageError, match=re.escape("processes is 4, and runtime.devices of params.yaml is 1")):
        read(tmp_path, processes=4)
