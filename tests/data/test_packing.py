from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from memory_data import PEAK
from shards_data import META, contents, make_samples, make_shards

from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import encode_image, encode_mask
from rc2l_bench.data.packing import verify, write
from rc2l_bench.data.shards import Shards
from rc2l_bench.errors import BenchError

HERE = Path(__file__).parents[1]


def test_the_pool_holds_no_label_bytes(tmp_path):
    shards = make_shards(tmp_path / "pool", 10, masks=False)
    everything = b"".join(contents(tmp_path / "pool").values())
    assert not any(sample.mask in everything for sample in make_samples(10))
    assert b"mask.png" not in everything
    assert not shards.labelled
    with pytest.raises(BenchError, match=r"sample 'a\.003', mask: there is none"):
        shards.read_mask(3)


def test_every_flipped_byte_of_a_shard_is_found_and_the_sample_named(tmp_path):
    shards = make_shards(tmp_path / "pool", 3, per_shard=2)
    path = tmp_path / "pool" / "train-000000.tar"
    intact = path.read_bytes()
    second = shards.table.entry(1)
    places = random.Random(0).sample(range(len(intact)), 300)
    for place in [*places, 0, second.image.offset - 1, second.image.offset, len(intact) - 1]:
        damaged = bytearray(intact)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(BenchError) as error:
            verify(tmp_path / "pool")
        end = second.mask.offset + -(-second.mask.size // 512) * 512
        owner = "its end" if place >= end else f"'a.00{int(place >= second.image.offset - 512)}'"
        assert str(error.value).startswith(f"{path}: ")
        assert owner in str(error.value), place
    path.write_bytes(intact)
    verify(tmp_path / "pool")


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d[:5000], lambda _: b"", lambda d: d + bytes(512)])
def test_a_shard_that_is_too_short_or_too_long_is_found(tmp_path, change):
    make_shards(tmp_path / "pool", 3)
    path = tmp_path / "pool" / "train-000000.tar"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BenchError, match=r"train-000000\.tar: "):
        verify(tmp_path / "pool")


def test_images_that_do_not_fit_are_refused_and_nothing_is_left(tmp_path):
    image, mask = np.zeros((24, 33, 3), np.uint8), np.zeros((24, 32), np.uint8)
    large = Sample(id="large", part="train", image=encode_image(image), suffix="png", mask=None)
    with pytest.raises(BenchError, match="sample 'large': 24×33 pixels, more than the canvas 24×32"):
        write(tmp_path / "pool", [*make_samples(5), large], META, "train", 2, with_masks=False)
    odd = Sample(id="odd", part="train", image=encode_image(image[:, :31]), suffix="png", mask=encode_mask(mask))
    with pytest.raises(BenchError, match="sample 'odd': the image has 24×31 pixels, its mask 24×32"):
        write(tmp_path / "pool", [odd], META, "train", 2, with_masks=True)
    bare = make_samples(1, masks=False)
    with pytest.raises(BenchError, match="split '1_4' counts it as labelled, but it has no mask"):
        write(tmp_path / "pool", bare, META, "train", 2, with_masks=True, split="1_4", split_id="0" * 64)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_failed_build_leaves_the_old_shards(tmp_path):
    make_shards(tmp_path / "pool", 3)
    before = contents(tmp_path / "pool")

    def failing():
        yield from make_samples(5, start=7)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as error:
        write(tmp_path / "pool", failing(), META, "train", 2, with_masks=True)
    assert error.value.filename == str(tmp_path / "pool")
    assert contents(tmp_path / "pool") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["pool"]


def test_a_full_disk_ends_the_build_and_names_the_folder(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
from shards_data import META, make_samples
from rc2l_bench.console import guarded
from rc2l_bench.data.packing import write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))  # writes beyond it fail as on a full disk
guarded(write)(Path(sys.argv[1]), make_samples(50), META, "train", 20, with_masks=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pool"], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path}/pool: File too large\n")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_killed_build_leaves_the_old_shards_and_the_next_one_cleans_up(tmp_path):
    make_shards(tmp_path / "pool", 3)
    before = contents(tmp_path / "pool")
    code = """
import sys, time
from pathlib import Path
from shards_data import META, make_samples
from rc2l_bench.data.packing import write
def slow():
    for sample in make_samples(50, start=3):
        yield sample
        print(sample.id, flush=True)
        time.sleep(0.02)
write(Path(sys.argv[1]), slow(), META, "train", 4, with_masks=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "pool"], cwd=HERE, stdout=subprocess.PIPE)
    for _ in range(10):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert contents(tmp_path / "pool") == before
    assert (tmp_path / ".pool.new").exists()
    make_shards(tmp_path / "pool", 6)
    assert len(verify(tmp_path / "pool")) == 6
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["pool"]


def test_a_folder_of_somebody_else_keeps_its_files(tmp_path):
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/mine.tar").write_bytes(b"mine")
    make_shards(tmp_path / "pool", 6)
    assert len(verify(tmp_path / "pool")) == 6
    assert (tmp_path / "pool.wrong/mine.tar").read_bytes() == b"mine"


def test_building_the_same_again_does_not_touch_the_files(tmp_path):
    shards = make_shards(tmp_path / "pool", 6)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards.folder.iterdir()}
    make_shards(tmp_path / "pool", 6)
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards.folder.iterdir()} == before


def test_building_again_repairs_a_damaged_shard(tmp_path):
    shards = make_shards(tmp_path / "pool", 6)
    before = contents(shards.folder)
    (shards.folder / "train-000001.tar").write_bytes(b"")
    make_shards(tmp_path / "pool", 6)
    assert contents(shards.folder) == before


def test_memory_stays_flat_while_samples_stream(tmp_path):
    code = """
import sys
from pathlib import Path
import numpy as np
from rc2l_bench.data.datasets.base import Sample
from rc2l_bench.data.decode import encode_image
from rc2l_bench.data.packing import write
from shards_data import META
data = encode_image(np.zeros((512, 1024, 3), np.uint8), stored=True)
def samples():
    for number in range(150):  # 236 MB
        yield Sample(id=f"{number:04d}", part="train", image=bytes(bytearray(data)), suffix="png", mask=None)
meta = {**META, "canvas": [512, 1024]}
before = PEAK
write(Path(sys.argv[1]), samples(), meta, "train", 64, with_masks=True)
print(PEAK - before)
""".replace("PEAK", PEAK)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pool"], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000  # KiB


def test_shards_of_an_older_form_are_built_anew(tmp_path):
    make_shards(tmp_path / "pool", 3)
    before = contents(tmp_path / "pool")
    (tmp_path / "pool/samples.arrow").unlink()
    (tmp_path / "pool/index.json").write_text('{"format": 1, "dataset": {}, "samples": []}')
    with pytest.raises(BenchError, match=r"index\.json: is of an older form: run the stages again"):
        Shards(tmp_path / "pool")
    make_shards(tmp_path / "pool", 3)
    assert contents(tmp_path / "pool") == before
