from __future__ import annotations

import dataclasses
import tarfile
import time
from hashlib import sha256

import numpy as np
import pytest
import webdataset
from PIL import Image
from shards_data import META, contents, make_samples, make_shards, picture

from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import decode_image, decode_mask
from rc2l_bench.data.packing import verify, write


def test_two_builds_have_the_same_bytes(tmp_path):
    make_shards(tmp_path / "first", 10)
    time.sleep(1.1)  # tar headers count seconds
    make_shards(tmp_path / "elsewhere" / "second", 10)
    assert contents(tmp_path / "first") == contents(tmp_path / "elsewhere" / "second")


def test_the_bytes_are_the_same_on_every_machine(tmp_path):
    found = make_shards(tmp_path / "pool", 5)
    tars = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("pool/*.tar")))
    assert sha256(tars).hexdigest() == "8b9b5e958ed9816f2d69094b61354c2b0f1db67d6ce2d1ed374504b0a6d7f6ed"
    assert found.digest == "e4d205ed3bc34c454b5a90baefe6b6ebdbb8bb6dbc6bb2d3c83f42d096993ae6"


def test_samples_out_of_order_are_refused(tmp_path):
    with pytest.raises(AssertionError, match=r"'a\.000' comes after 'a\.001'"):
        write(tmp_path / "pool", make_samples(2)[::-1], META, "train", 4, with_masks=True)
    with pytest.raises(AssertionError):
        write(tmp_path / "pool", make_samples(1) * 2, META, "train", 4, with_masks=True)
    assert not (tmp_path / "pool").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing to the collector
def test_plain_webdataset_reads_the_same_samples(tmp_path):
    shards = make_shards(tmp_path / "pool", 10)
    urls = [str(path) for path in sorted((tmp_path / "pool").glob("*.tar"))]
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in found] == [f"a%2E{number:03d}" for number in range(10)]
    for place, sample in enumerate(found):
        np.testing.assert_array_equal(decode_image(sample["png"]), shards.read_image(place))
        np.testing.assert_array_equal(decode_mask(sample["mask.png"]), shards.read_mask(place))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing to the collector
def test_ids_that_differ_only_in_a_dot_stay_apart_and_long_ids_of_any_letters_survive(tmp_path):
    first = make_samples(1)[0]
    ids = sorted(["a.b", "a_b", "a%2Eb", "é" * 90, "x" * 200, "__x__", "v.1/a.b", "v/a", "v/" + "y" * 900])
    samples = [dataclasses.replace(first, id=identity) for identity in ids]
    write(tmp_path / "pool", samples, META, "train", 9, with_masks=True)
    assert list(verify(tmp_path / "pool").ids) == ids
    keys = [
        sample["__key__"] for sample in webdataset.WebDataset(f"{tmp_path}/pool/train-000000.tar", shardshuffle=False)
    ]
    assert len(set(keys)) == len(ids)
    assert [key.replace("%2E", ".").replace("%25", "%") for key in keys] == ids


def test_source_bytes_go_in_untouched(tmp_path):
    Image.fromarray(picture(0)[0]).save(tmp_path / "x.jpg", quality=80)
    data = (tmp_path / "x.jpg").read_bytes()
    sample = Sample(id="x", part="train", image=data, suffix="jpg", mask=None)
    write(tmp_path / "pool", [sample], META, "train", 4, with_masks=False)
    with tarfile.open(tmp_path / "pool" / "train-000000.tar") as tar:
        assert tar.extractfile("x.jpg").read() == data
