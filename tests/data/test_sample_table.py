from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rc2l_bench.data import sample_table
from rc2l_bench.data.sample_table import Entry, Member, SampleTable, TableWriter
from rc2l_bench.errors import BenchError


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def entry(number: int) -> Entry:
    mask = Member(number + 900, 7, digest(-number)) if number % 3 else None
    return Entry(
        id=f"é{number:05d}", shard=number // 4, height=10 + number % 5, width=20 + number % 7,
        kind="jpg" if number % 2 else "png", image=Member(512 * number, number + 1, digest(number)), mask=mask,
    )  # fmt: skip


def write(path: Path, count: int) -> SampleTable:
    with TableWriter(path) as table:
        for number in range(count):
            table.add(entry(number))
    return SampleTable(path, count)


@pytest.fixture(params=[1 << 16, 7], ids=["one batch", "many batches"])
def table(request, tmp_path, monkeypatch) -> SampleTable:
    monkeypatch.setattr(sample_table, "ROWS", request.param)
    return write(tmp_path / "samples.arrow", 40)


def test_rows_come_back_one_by_one_and_in_a_row(table):
    assert [table.entry(number) for number in range(40)] == [entry(number) for number in range(40)]
    assert list(table.entries(range(5, 20))) == [entry(number) for number in range(5, 20)]


def test_ids_are_a_sequence_that_is_read_when_asked(table):
    expected = [entry(number).id for number in range(40)]
    assert list(table.ids) == expected
    assert (table.ids[-1], table.ids[3:6], len(table.ids)) == (expected[-1], tuple(expected[3:6]), 40)
    with pytest.raises(IndexError):
        table.ids[40]


def test_ids_are_found_by_bisection(table):
    assert list(table.find([entry(39).id, entry(0).id, entry(13).id])) == [39, 0, 13]
    for unknown in ("", "é00013x", "zz", "a"):
        with pytest.raises(BenchError, match=f"has no sample '{unknown}'"):
            list(table.find([unknown]))


def test_sizes_are_read_for_many_at_once(table):
    sizes = table.sizes(np.array([39, 0, 8, 8]))
    assert (sizes.dtype, sizes.tolist()) == (np.int64, [[14, 24], [10, 20], [13, 21], [13, 21]])
    assert table.sizes(np.zeros(0, np.int64)).shape == (0, 2)


def test_images_are_found_by_their_bytes(table):
    assert table.with_hashes([digest(30), digest(2), digest(1000)]).tolist() == [2, 30]
    assert table.with_hashes([]).tolist() == []


def test_the_summary_is_that_of_the_rows(tmp_path):
    with TableWriter(tmp_path / "t") as table:
        for number in range(40):
            table.add(entry(number))
    found = table.summary()
    ids = "\n".join(entry(number).id for number in range(40))
    assert (found.count, found.with_mask, found.largest) == (40, 26, (14, 26))
    assert found.most_pixels == max(entry(number).height * entry(number).width for number in range(40))
    assert found.ids_sha256 == hashlib.sha256(ids.encode()).hexdigest()


def test_the_same_rows_make_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, 40)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_rows_out_of_order_are_refused(tmp_path):
    table = TableWriter(tmp_path / "t")
    table.add(entry(2))
    with pytest.raises(AssertionError, match="'é00001' comes after 'é00002'"):
        table.add(entry(1))


def test_an_empty_table_is_a_table(tmp_path):
    table = write(tmp_path / "t", 0)
    assert (len(table), list(table.ids), table.with_hashes([digest(1)]).tolist()) == (0, [], [])


def test_what_is_no_table_is_told_in_one_line(tmp_path):
    write(tmp_path / "t", 5)
    with pytest.raises(BenchError, match=r"t: no table of 99999999 samples") as error:
        SampleTable(tmp_path / "t", 99999999)
    (tmp_path / "t").write_bytes(b"nothing like that" * 100)
    with pytest.raises(BenchError, match=r"t: no Arrow file") as error:
        SampleTable(tmp_path / "t", 5)
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError):
        SampleTable(tmp_path / "missing", 5)


def test_neither_writing_nor_reading_waits_for_pandas(tmp_path):
    code = """
import sys
from pathlib import Path
from test_sample_table import digest, np, write
table = write(Path(sys.argv[1]), 20)
table.entry(3), table.sizes(np.array([1, 2])), list(table.find(table.ids[:2])), table.with_hashes([digest(5)])
sys.exit('pandas' in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "t"], cwd=Path(__file__).parent).returncode == 0
