"""Every input of a run moves its fingerprint, and nothing else does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_data

from rc2l_bench.config import FurtherScores
from rc2l_bench.data import splits
from rc2l_bench.errors import BenchError
from rc2l_bench.run import cell
from rc2l_bench.run.cell import RunInputs, open_cell
from rc2l_bench.sources import digest_file

SHARDS, PLAN = Path("data/shards/tiny"), Path("data/splits/tiny/1_4/seed0.json")
QUIET_RUNTIME = {"workers", "cache_mb", "checkpoint_every", "checkpoint_minutes", "share_minutes", "trackers"}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(value, dict):
        yield path
        return
    for key, inner in value.items():
        yield from leaves(inner, (*path, key))


def changed(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy with another value at a leaf, whether or not it makes sense."""
    out = inner = copy.deepcopy(data)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = f"not {inner[path[-1]]}"
    return out


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Iterator[RunInputs]:
    root = tmp_path_factory.mktemp("cell")
    tiny_data.write_checkout(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield open_cell("tiny", "1_4", "baselines/cps", 0, SHARDS, PLAN)


def name(inputs: RunInputs) -> str:
    found: str = inputs.provenance()["fingerprint"]
    return found


def test_the_same_inputs_have_the_same_name(inputs):
    assert name(inputs) == name(replace(inputs))


@pytest.mark.parametrize(
    "change", [{"dataset": "other"}, {"split": "1_8"}, {"method": "baselines/cps@plain"}, {"seed": 1}]
)
def test_the_cell_moves_it(inputs, change):
    assert name(replace(inputs, **change)) != name(inputs)


@pytest.mark.parametrize("path", list(leaves(tiny_data.PROTOCOL)), ids=".".join)
def test_every_number_of_the_protocol_moves_it(inputs, monkeypatch, path):
    before, data = name(inputs), inputs.declared.model_dump(mode="json")
    fake = SimpleNamespace(net=inputs.declared.net, model_dump=lambda **_: changed(data, path))
    monkeypatch.setattr(RunInputs, "declared", fake)
    assert name(inputs) != before


@pytest.mark.parametrize("path", list(leaves(tiny_data.RUNTIME)), ids=".".join)
def test_the_runtime_moves_it_where_it_moves_numbers(inputs, path):
    runtime = inputs.params.runtime
    *inside, leaf = path
    owner = runtime.levers if inside else runtime
    value = owner.model_dump(mode="json")[leaf]
    other = {"device": "cuda", "precision": "bf16-mixed"}.get(leaf, not value if isinstance(value, bool) else value)
    other = value + 1 if isinstance(other, int | float) and not isinstance(other, bool) else other
    changed_owner = owner.model_copy(update={leaf: other})
    runtime = runtime.model_copy(update={inside[0]: changed_owner}) if inside else changed_owner
    moved = name(replace(inputs, params=inputs.params.model_copy(update={"runtime": runtime}))) != name(inputs)
    assert moved == (path[0] not in QUIET_RUNTIME)


def spoiling(inputs: RunInputs, *names: str, **changes: Any) -> RunInputs:
    """The same with further scores."""
    further = FurtherScores.model_construct(corruptions=[*names])
    return replace(inputs, params=inputs.params.model_copy(update={"eval": further}), **changes)


def test_corruptions_move_it_and_where_there_are_none_nothing_is_said_of_them(inputs):
    assert len({name(inputs), name(spoiling(inputs, "blur")), name(spoiling(inputs, "blur", "jpeg"))}) == 3
    assert "corruptions" not in inputs.provenance()
    assert spoiling(inputs, "blur").provenance()["protocol"] == inputs.provenance()["protocol"]


def test_a_trial_is_scored_on_no_spoilt_images(inputs):
    trial = replace(inputs, tuning={"status": "trial"})
    assert name(spoiling(trial, "blur")) == name(trial)


@pytest.mark.parametrize("path", list(leaves({"weight": 1, "views": {"mix": {"boxes": 1}}})), ids=".".join)
def test_every_number_of_the_method_moves_it(inputs, path):
    assert name(replace(inputs, config=changed(inputs.config, path))) != name(inputs)


@pytest.mark.parametrize(
    "change", [{"numbers": {"lr": 0.1}}, {"tuning": {"status": "tuned", "trials": 3, "study": "a"}}], ids=str
)
def test_tuning_moves_it(inputs, change):
    assert name(replace(inputs, **change)) != name(inputs)


def test_every_image_of_a_split_moves_it(inputs):
    labelled, train = inputs.plan.labelled, inputs.plan.train
    others = [
        {"labelled": (*labelled[:-1], "another")},
        {"train": train.model_copy(update={"ids_sha256": "0" * 64})},
        {"unlabelled": ("another",)},
        {"unlabelled": ("another", "still another")},
    ]
    names = {name(inputs), *(name(replace(inputs, plan=replace(inputs.plan, **change))) for change in others)}
    assert len(names) == 5


@pytest.mark.parametrize("part", ["pool", "labelled", "val", "test", "audited"])
def test_the_bytes_of_every_part_move_it(inputs, part):
    shards = getattr(inputs, part)
    other = SimpleNamespace(digest=f"{shards.digest}x", index=shards.index)
    assert name(replace(inputs, **{part: other})) != name(inputs)


def test_a_test_part_moves_it(inputs):
    assert name(replace(inputs, test=None)) != name(inputs)


def test_audited_images_move_it(inputs):
    assert name(replace(inputs, audited=None)) != name(inputs)


def test_the_classes_move_it(inputs):
    dataset = inputs.val.index.dataset.model_copy(update={"classes": ["a", "b", "c"]})
    other = SimpleNamespace(digest=inputs.val.digest, index=SimpleNamespace(dataset=dataset))
    assert name(replace(inputs, val=other)) != name(inputs)


@pytest.mark.parametrize("package", cell.NUMERIC)
def test_the_version_of_every_numeric_package_moves_it(inputs, monkeypatch, package):
    before, known = name(inputs), cell.versions()
    monkeypatch.setattr(cell, "versions", lambda: known | {package: "0"})
    assert name(inputs) != before


def test_the_pretrained_weights_move_it(inputs, monkeypatch, tmp_path):
    names = set()
    for content in ("a", "b"):
        (tmp_path / content).write_text(content)
        monkeypatch.setattr(cell, "find_weights", lambda _, file=tmp_path / content: file)
        names.add(name(inputs))
    assert len(names) == 2


def test_the_code_moves_it(inputs, monkeypatch):
    before = name(inputs)
    monkeypatch.setattr(cell, "digest_sources", lambda _: "other")
    assert name(inputs) != before


def test_a_comment_does_not_move_it(inputs, monkeypatch, tmp_path):
    """The whole way: the method's own file, edited between two looks."""
    before, file = name(inputs), Path("baselines/cps.py")
    source = file.read_text()
    monkeypatch.setattr("rc2l_bench.sources.module_file", _own(file, Path(tiny_data.ROOT)))
    first = name(inputs)
    file.write_text(f"# A comment.\n{source}")
    assert name(inputs) == first == before
    file.write_text(f"{source}\nPOINTLESS = 1\n")
    assert name(inputs) != first
    file.write_text(source)


def _own(file: Path, root: Path) -> Callable[[str], Path | None]:
    """Modules of the package, and `baselines.cps` from the current checkout."""
    from rc2l_bench.sources import module_file

    return lambda module: file if module == "baselines.cps" else module_file(module)


def test_a_method_is_trained_with_the_numbers_of_its_fingerprint(inputs):
    """The yaml is read once: an edit between fingerprint and training changes neither."""
    from rc2l_bench.methods.contract import check_config

    file = Path("baselines/cps.yaml")
    text = file.read_text()
    file.write_text(text.replace("weight: 1.0", "weight: 0.5"))
    try:
        assert (
            check_config(inputs.method, inputs.config).weight == inputs.provenance()["method_config"]["weight"] == 1.0
        )
    finally:
        file.write_text(text)


def test_everything_of_the_fingerprint_can_be_written(inputs):
    assert json.loads(json.dumps(inputs.provenance(), allow_nan=False))


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A checkout of its own, to be changed."""
    tiny_data.write_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("weights", ["coco.safetensors", "maskformer:coco.safetensors"])
def test_a_run_is_named_after_the_bytes_of_its_weights(checkout, weights):
    tiny_data.write_yaml(
        checkout / "params.yaml", tiny_data.params(protocol={"default": {"net": {"weights": weights}}})
    )
    found = []
    for content in (b"a", b"b"):
        (checkout / "coco.safetensors").write_bytes(content)
        found.append(open_cell("tiny", "1_4", "baselines/supervised", 0, SHARDS, PLAN).provenance())
        assert found[-1]["weights"] == digest_file(checkout / "coco.safetensors")
    assert found[0]["fingerprint"] != found[1]["fingerprint"]
    assert found[0]["protocol"]["net"]["weights"] == weights


def test_a_variant_trains_with_its_own_protocol_and_is_stored_beside_the_declared_one(checkout, monkeypatch):
    yaml = checkout / "baselines/cps.yaml"
    yaml.write_text(
        yaml.read_text().replace("variants:\n", "variants:\n  wide: {protocol: {net: {region: {queries: 99}}}}\n")
    )
    monkeypatch.setattr("rc2l_bench.variants.method_yaml", lambda _: yaml)
    cells = [open_cell("tiny", "1_4", method, 0, SHARDS, PLAN) for method in ("baselines/cps", "baselines/cps@wide")]
    assert [one.protocol.net.region.queries for one in cells] == [8, 99]
    plain, varied = (one.provenance() for one in cells)
    assert varied["protocol"] == plain["protocol"]
    assert varied["protocol_changes"] == {"net": {"region": {"queries": 99}}}
    assert varied["fingerprint"] != plain["fingerprint"]


def test_a_pool_of_other_images_than_the_split_divides_is_refused(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    split = splits.read(PLAN)
    splits.write(replace(split, train=split.train.model_copy(update={"ids_sha256": "0" * 64})), PLAN)
    with pytest.raises(
        BenchError, match=r"pool: has other images than .*seed0\.json was made of: run the stages again"
    ):
        open_cell("tiny", "1_4", "baselines/supervised", 0, SHARDS, PLAN)
