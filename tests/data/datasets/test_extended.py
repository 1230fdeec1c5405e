"""`extends`: another data set with a larger pool; everything else is that of the data set itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from folder_data import describe, write_images

from rc2l_bench.config import extended_by
from rc2l_bench.data import catalog
from rc2l_bench.data.datasets.registry import inputs_of, load_dataset
from rc2l_bench.data.split_lists import list_path, published
from rc2l_bench.errors import UsageError


@pytest.fixture(autouse=True)
def checkout(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path)
    describe("mine")
    (tmp_path / "more/deep").mkdir(parents=True)
    return tmp_path


def extend(name: str, **content: object) -> None:
    Path(f"datasets/{name}.yaml").write_text(json.dumps(content))


def test_all_but_the_pool_is_that_of_the_data_set_itself():
    extend("larger", extends="mine", pool="more")
    larger, mine, raw = load_dataset("larger"), load_dataset("mine"), Path("data/raw/larger")
    assert not larger.present(raw)
    larger.prepare(raw)
    assert larger.present(raw)
    larger.verify(raw)
    assert larger.meta() == mine.meta() | {"name": "larger"}
    for part in ("train", "val", "test"):
        own = list(mine.samples(Path("data/raw/mine"), part))
        assert list(larger.samples(raw, part)) == own
        assert [image.image for image in larger.images(raw, part)] == [sample.image for sample in own]
    assert (larger.pool, mine.pool) == (["more"], None)
    table = catalog.make(larger, raw)
    assert len(table.of("train")) == len(list(mine.samples(Path("data/raw/mine"), "train")))


def test_the_size_of_a_large_image_is_that_of_the_data_set_itself():
    extend("larger", extends="ade20k", pool="more")
    assert load_dataset("larger").usual == load_dataset("ade20k").usual != load_dataset("ade20k").canvas


def test_description_and_folders_of_the_pool_are_looked_at():
    extend("larger", extends="mine", pool=["more", "https://a.org/x.tar"])
    found = {path.as_posix() for path in inputs_of("larger")}
    assert {"datasets/larger.yaml", "datasets/mine.yaml", "more", "more/deep"} <= found


def test_a_pool_of_the_data_set_itself_stays():
    content = yaml.safe_load(Path("datasets/mine.yaml").read_text())
    Path("datasets/mine.yaml").write_text(json.dumps(content | {"pool": ["more"]}))
    extend("larger", extends="mine", pool=["https://a.org/x.tar"])
    assert load_dataset("larger").pool == ["more", "https://a.org/x.tar"]
    found = [path.as_posix() for path in inputs_of("larger")]
    assert len(found) == len(set(found))
    assert {"more", "more/deep"} <= set(found)
    extend("streamed", extends="mine", pool={"stream": "https://a.org/x.tar"})
    with pytest.raises(UsageError, match="'mine' has one already, and a stream has nothing beside it"):
        load_dataset("streamed")


def test_protocol_and_lists_are_those_of_the_data_set_itself():
    extend("larger", extends="voc", pool="more")
    Path("splits").mkdir()
    Path("splits/voc.yaml").write_text("example: some_id\n")
    assert (extended_by("larger"), extended_by("voc")) == ("voc", "voc")
    assert published("larger").example == "some_id"
    assert list_path("larger", "92") == Path("splits/voc/92.txt")


@pytest.mark.parametrize(("content", "reason"), [
    ({"extends": "nobody", "pool": "more"}, "extends: unknown dataset 'nobody'"),
    ({"extends": "wrong", "pool": "more"}, "extends: unknown dataset 'wrong'"),
    ({"extends": "larger", "pool": "more"}, "extends: 'larger' extends a data set itself: extend 'mine'"),
    ({"extends": "mine"}, "pool"),
    ({"extends": "mine", "pool": []}, "pool"),
    ({"extends": "mine", "pool": {"stream": "x.tar", "shuffle": 0}}, "shuffle"),
])  # fmt: skip
def test_what_cannot_be_is_told(content, reason):
    extend("larger", extends="mine", pool="more")
    extend("wrong", **content)
    with pytest.raises(UsageError, match=reason) as error:
        load_dataset("wrong")
    assert "\n" not in str(error.value)
