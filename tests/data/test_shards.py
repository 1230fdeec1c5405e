from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shards_data import META, make_samples, make_shards, picture

from rc2l_bench.data import index, storage
from rc2l_bench.data.packing import verify, write
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError
from rc2l_bench.files import write_atomically

HERE = Path(__file__).parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_packed_comes_back(tmp_path):
    shards = make_shards(tmp_path / "pool", 10)
    assert list(shards.ids) == [f"a.{number:03d}" for number in range(10)]
    assert (shards.canvas, shards.classes, shards.labelled) == ((24, 32), ("sky", "road", "tree"), True)
    for place in range(10):
        image, mask = picture(place)
        np.testing.assert_array_equal(shards.read_image(place), image)
        np.testing.assert_array_equal(shards.read_mask(place), mask)
    assert [shard.name for shard in shards.index.shards] == [f"train-00000{number}.tar" for number in range(3)]
    assert [entry.shard for entry in shards.table.entries(range(10))] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["index.json", "samples.arrow"])
def test_every_flipped_byte_of_the_index_is_found(tmp_path, name):
    make_shards(tmp_path / "pool", 3)
    path = tmp_path / "pool" / name
    intact = path.read_bytes()
    for place in [*range(0, len(intact), 7), len(intact) - 1]:
        damaged = bytearray(intact)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=rf"{name}: .*delete the folder and build it again"):
            Shards(tmp_path / "pool")
    path.write_bytes(intact[: len(intact) // 2])
    with pytest.raises(BenchError, match=rf"{name}: "):
        Shards(tmp_path / "pool")


def test_missing_files_are_named_in_one_line(tmp_path):
    with pytest.raises(BenchError, match=r"index\.json: is missing: folders of shards"):
        Shards(tmp_path)
    make_shards(tmp_path / "listless", 2)
    (tmp_path / "listless/samples.arrow").unlink()
    with pytest.raises(BenchError, match=r"samples\.arrow: is missing: delete the folder"):
        Shards(tmp_path / "listless")
    shards = make_shards(tmp_path / "pool", 5)
    (tmp_path / "pool" / "train-000001.tar").unlink()
    for read in (lambda: shards.read_image(4), lambda: verify(tmp_path / "pool")):
        with pytest.raises(BenchError, match=r"train-000001\.tar: is missing: delete the folder") as error:
            read()
        assert "\n" not in str(error.value)


def test_reading_damaged_samples_names_shard_and_sample(tmp_path):
    shards = make_shards(tmp_path / "pool", 3)
    entry = shards.table.entry(1)
    path = tmp_path / "pool" / "train-000000.tar"
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[entry.image.offset + 100] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(BenchError, match=r"train-000000\.tar: sample 'a\.001': has changed since it was written"):
        shards.read_image(1)
    os.truncate(path, entry.image.offset + 10)
    with pytest.raises(BenchError, match=r"sample 'a\.001': lies behind the end of the file"):
        shards.read_image(1)


def test_an_open_reader_survives_another_build_in_the_same_place(tmp_path):
    shards = make_shards(tmp_path / "pool", 6)
    shards.read_image(0)
    write(tmp_path / "pool", make_samples(2, start=40), META, "train", 4, with_masks=True)
    np.testing.assert_array_equal(shards.read_image(1), picture(1)[0])


def test_a_copy_in_another_process_reads_too_and_closing_frees_the_files(tmp_path):
    shards = make_shards(tmp_path / "pool", 6)
    shards.read_image(0)
    copy = pickle.loads(pickle.dumps(shards))
    np.testing.assert_array_equal(copy.read_image(5), picture(5)[0])
    opened = len(list(Path("/proc/self/fd").iterdir()))
    copy.close()
    shards.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == opened - 2
    np.testing.assert_array_equal(shards.read_image(5), picture(5)[0])


def test_importing_it_is_light():
    code = "import sys, rc2l_bench.data.shards; sys.exit(bool({'torch', 'webdataset', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_samples_are_chosen_by_their_ids_or_by_all_others(tmp_path):
    shards = make_shards(tmp_path / "pool", 6)
    chosen, others = (shards.select(["a.004", "a.001"], without=without) for without in (False, True))
    assert chosen[np.arange(len(chosen))].tolist() == [1, 4]
    assert others[np.arange(len(others))].tolist() == [0, 2, 3, 5]
    with pytest.raises(BenchError, match=r"pool: has no sample 'a\.006': run the stages again"):
        shards.select(["a.001", "a.006"])


def test_a_sample_in_a_shard_that_the_index_does_not_list_is_refused(tmp_path):
    shards = make_shards(tmp_path / "pool", 10)
    content = shards.index.model_dump(mode="json")
    write_atomically(tmp_path / "pool/index.json", index.render(content | {"shards": content["shards"][:2]}))
    short = Shards(tmp_path / "pool")
    short.read_image(7)
    with pytest.raises(BenchError, match=r"pool: sample 'a.008' is in a shard that the index does not list"):
        short.read_image(8)


def test_an_image_of_another_size_than_the_index_says_is_refused(tmp_path):
    shards = make_shards(tmp_path / "pool", 2)
    first, second = shards.read([0, 1])
    with pytest.raises(BenchError, match=r"sample 'a\.000': 23×31 pixels, expected 24×32"):
        first._replace(image=second.image).decode_image()


def test_more_shards_than_a_process_may_open_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MOST_OPEN", 2)
    shards = make_shards(tmp_path / "pool", 10, per_shard=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        assert [sample.entry.id for sample in shards.read(range(10))] == list(shards.ids)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 2
