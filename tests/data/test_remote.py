from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from shards_data import make_shards, picture
from web_data import FAULTS, FolderServer, serve_folder

from rc2l_bench.data import ranges, remote
from rc2l_bench.data.remote import Remote
from rc2l_bench.data.shards import Shards
from rc2l_bench.data.storage import Piece
from rc2l_bench.errors import BenchError


@pytest.fixture
def shards(tmp_path) -> Shards:
    return make_shards(tmp_path / "far" / "pool", 10)


@pytest.fixture
def web(shards, monkeypatch) -> FolderServer:
    monkeypatch.setattr(ranges, "TIMEOUT", (2.0, 0.3))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with serve_folder(shards.folder.parent) as server:
        yield server


def pieces(shards: Shards) -> list[Piece]:
    return [shards._piece(entry, entry.image) for entry in shards.table.entries(range(len(shards)))]


def near(shards: Shards) -> list[bytes]:
    return shards.storage.read(pieces(shards))


def test_pieces_are_the_bytes_of_the_disk(shards, web):
    assert Remote(f"{web.url}/pool/").read(pieces(shards)) == near(shards)
    assert Remote(f"{web.url}/pool/").read([]) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_no_single_fault_changes_what_arrives(shards, web, fault):
    web.faults, web.every = (fault,), 3
    assert Remote(f"{web.url}/pool/").read(pieces(shards)) == near(shards)
    assert web.failed


def test_all_faults_together_change_nothing(shards, web):
    web.faults, web.every = FAULTS, 4
    for _ in range(4):
        assert Remote(f"{web.url}/pool/").read(pieces(shards)) == near(shards)
    assert set(web.failed) == set(FAULTS)


def test_only_what_failed_is_asked_for_again(shards, web):
    web.faults, web.every = ("broken",), 10
    Remote(f"{web.url}/pool/").read(pieces(shards))
    assert len(web.asked) == 11


def test_it_gives_up_with_one_line_that_names_the_sample_and_no_secret(shards, web, monkeypatch):
    monkeypatch.setenv("POOL_TOKEN", "s3cret")
    web.faults = ("overloaded",)
    with pytest.raises(BenchError) as error:
        Remote(f"{web.url}/pool/?sig=${{POOL_TOKEN}}").read(pieces(shards)[:2])
    assert str(error.value) == (
        f"{web.url}/pool/train-000000.tar: sample 'a.000': answers 503 (tried 5 times): run the same again later, it "
        "goes on from here"
    )
    assert len(web.asked) == 10


def test_what_no_try_can_change_is_told_at_once(shards, web):
    with pytest.raises(BenchError, match=r"/elsewhere/train-000000\.tar: sample 'a\.000': answers 404$"):
        Remote(f"{web.url}/elsewhere/").read(pieces(shards))
    assert len(web.asked) == 10


def test_bytes_that_changed_for_good_are_refused(shards, web):
    path = shards.folder / "train-000000.tar"
    wanted = pieces(shards)[:1]
    data = bytearray(path.read_bytes())
    data[wanted[0].offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(BenchError, match=r"sample 'a\.000': sends other bytes than the index says \(tried 5 times\)"):
        Remote(f"{web.url}/pool/").read(wanted)


def test_copies_are_read_first_and_damaged_ones_replaced_from_afar(shards, web, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("train-000000.tar", "train-000001.tar"):
        (copies / name).write_bytes((shards.folder / name).read_bytes())
    (copies / "train-000001.tar").write_bytes(b"cut off")
    far = Remote(f"{web.url}/pool/", copies)
    assert far.read(pieces(shards)) == near(shards)
    assert {path for path, _ in web.asked} == {"/pool/train-000001.tar", "/pool/train-000002.tar"}
    far.close()
    assert far.read(pieces(shards)) == near(shards)


def test_shards_whose_bytes_are_far_away_are_read_like_others(shards, web, tmp_path, monkeypatch):
    from rc2l_bench.data import packing

    monkeypatch.chdir(tmp_path)
    local = tmp_path / "index"
    local.mkdir()
    (local / "samples.arrow").write_bytes((shards.folder / "samples.arrow").read_bytes())
    origin = shards.index.model_dump(mode="json", include={"dataset", "part", "split", "split_id", "layout"})
    packing.write_index(local, origin | {"base": f"{web.url}/pool/"}, shards.index.shards, shards.index.samples)
    far = Shards(local)
    assert far.digest == shards.digest
    for reader in (far, pickle.loads(pickle.dumps(far))):
        np.testing.assert_array_equal(reader.read_image(7), picture(7)[0])
        np.testing.assert_array_equal(reader.read_mask(2), picture(2)[1])
    assert [encoded.image for encoded in far.read(range(10))] == near(shards)
    assert not Path(".rc2l").exists()
