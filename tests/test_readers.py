"""What comes in through the one door, and what does not."""

from __future__ import annotations

import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from memory_data import PEAK
from PIL import Image

from rc2l_bench.errors import UsageError
from rc2l_bench.readers import (
    MOST_PIXELS,
    ArrayForm,
    DamagedFileError,
    parse_arrays,
    parse_json,
    parse_picture,
    parse_rows,
    parse_text,
    read_bytes,
    read_json,
    read_text,
    reading,
)

COUNTS = ArrayForm("int32", 3)
FORMS = {"val": COUNTS, "val_ids": ArrayForm("U", 1)}
MEMORY = """
import sys
from rc2l_bench.readers import DamagedFileError, parse_arrays, ArrayForm
try:
    parse_arrays(open(sys.argv[1], "rb").read(), "x.npz", {"val": ArrayForm("int32", 3)})
except DamagedFileError as error:
    print(error)
print(PEAK // 1024)
""".replace("PEAK", PEAK)


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def refused(call, *arguments) -> str:
    with pytest.raises(DamagedFileError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read_as_it_is(tmp_path):
    (tmp_path / "x").write_bytes(b"a\r\nb")
    assert read_bytes(tmp_path / "x") == b"a\r\nb"
    assert read_text(tmp_path / "x") == "a\r\nb"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    assert refused(read_bytes, tmp_path / "x", 100).endswith("x: has 1,099,511,627,776 bytes, expected at most 100")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x")
    assert refused(read_bytes, tmp_path / "x").endswith("x: is a pipe or device, expected a file")


def test_a_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(IsADirectoryError) as caught:
        read_bytes(tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_a_byte_order_mark_is_no_text():
    assert parse_text(b"\xef\xbb\xbfa", "x") == "a"


def test_bytes_that_are_no_text_are_named_with_their_place():
    assert refused(parse_text, b"caf\xe9", "x.csv") == "x.csv: not text in UTF-8: byte 0xe9 at position 3"


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, "x"]}, [], 3, "ä"])
def test_json_is_parsed(tmp_path, value):
    (tmp_path / "x").write_text(json.dumps(value))
    assert read_json(tmp_path / "x") == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "Expecting value"), ('{"a": 1', "delimiter"), ("NaN", "NaN is no number"),
     ("[-Infinity]", "-Infinity is no number"), ("[" * 100_000, "nested too deeply"), ("1" * 5000, "4300 digits")],
)  # fmt: skip
def test_what_is_no_json_is_one_line(text, reason):
    message = refused(parse_json, text.encode(), "x.json")
    assert message.startswith("x.json: not valid JSON (")
    assert reason in message


def test_rows_of_csv_are_split():
    assert parse_rows('a,"b, ""c""",\nd\n', "x") == [["a", 'b, "c"', ""], ["d"]]


@pytest.mark.parametrize("text", ["a" * 200_000, 'a,"b', 'a,"b"c'])
def test_csv_that_is_broken_is_one_line(text):
    assert refused(parse_rows, text, "x.csv").startswith("x.csv: damaged (")


@pytest.mark.parametrize(
    "error",
    [zlib.error("x"), lzma.LZMAError("x"), struct.error("x"), tarfile.ReadError("x"), zipfile.BadZipFile("x"),
     pickle.UnpicklingError("x"), MemoryError(), RecursionError("x"), OverflowError("x"),
     UnicodeDecodeError("a", b"", 0, 1, "x"), TypeError("x"), KeyError("x"), EOFError(), SyntaxError("x"),
     NotImplementedError("x"), OSError("image file is truncated")],
)  # fmt: skip
def test_whatever_a_parser_raises_becomes_one_line(error):
    def read() -> None:
        with reading("x.bin", "fetch it again"):
            raise error

    message = refused(read)
    assert message.startswith("x.bin: ")
    assert message.endswith(": fetch it again")


def test_what_has_a_line_of_its_own_keeps_it():
    with pytest.raises(UsageError, match=r"^mine$"), reading("x"):
        raise UsageError("mine")


def test_a_full_disk_is_no_damage():
    with pytest.raises(OSError, match="No space"), reading("x"):
        raise OSError(28, "No space left on device")


def test_arrays_are_taken_out_as_they_were_put_in():
    counts, ids = np.arange(24, dtype=np.int32).reshape(2, 3, 4), np.array(["a", "bc"])
    found = parse_arrays(packed(val=counts, val_ids=ids, more=ids), "x", FORMS)
    assert set(found) == {"val", "val_ids"}
    assert np.array_equal(found["val"], counts)
    assert found["val"].dtype == np.int32
    assert found["val_ids"].tolist() == ["a", "bc"]


def test_the_order_of_axes_in_memory_does_not_matter():
    counts = np.asfortranarray(np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    assert np.array_equal(parse_arrays(packed(val=counts), "x", {"val": COUNTS})["val"], counts)


@pytest.mark.parametrize(
    ("array", "reason"),
    [(np.zeros((2, 2), np.int32), "is int32 with 2 axes"), (np.zeros((2, 2, 2)), "is float64"),
     (np.array([[["a"]]]), "is <U1"), (np.zeros((1, 1, 1), object), "is object"),
     (np.zeros((1, 1, 1), [("a", "i4")]), "with 3 axes, expected int32")],
)  # fmt: skip
def test_arrays_of_another_form_are_refused(array, reason):
    assert reason in refused(parse_arrays, packed(val=array), "x.npz", {"val": COUNTS})


def test_an_array_that_is_missing_is_named():
    assert "has no" in refused(parse_arrays, packed(a=np.zeros(1)), "x.npz", FORMS)


def npz_of(header: dict, body: bytes) -> bytes:
    member, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("val.npy", member.getvalue() + body)
    return file.getvalue()


@pytest.mark.parametrize(
    ("shape", "body", "reason"),
    [((1 << 40, 2, 2), b"", "expected at most"), ((-1, -1, 4), b"", "expected at most"),
     ((1, 1, 2), bytes(4), "fewer than the 8"),     ((1, 1, 2), bytes(9), "more than the 8")],
)  # fmt: skip
def test_a_shape_that_the_bytes_do_not_have_is_refused(shape, body, reason):
    data = npz_of({"descr": "<i4", "fortran_order": False, "shape": shape}, body)
    assert reason in refused(parse_arrays, data, "x.npz", {"val": COUNTS})


def test_a_member_that_expands_a_thousandfold_costs_no_memory(tmp_path):
    """1 MB in the file, 1 GB in memory; what the header promises is read, and one byte more."""
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("val.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, {"descr": "<i4", "fortran_order": False, "shape": (1, 1, 1)})
        for _ in range(1 << 10):
            member.write(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "x.npz")], capture_output=True, text=True, check=True
    )
    message, peak = done.stdout.splitlines()
    assert "more than the 4 bytes it promises" in message
    assert int(peak) < 400


def test_a_flipped_byte_of_an_array_is_found():
    data = bytearray(packed(val=np.arange(2000, dtype=np.int32).reshape(20, 10, 10)))
    data[len(data) // 2] ^= 1
    assert "x.npz" in refused(parse_arrays, bytes(data), "x.npz", {"val": COUNTS})


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (3, 4, 3)), ("RGBA", (3, 4, 3)), ("P", (3, 4)), ("L", (3, 4))])
def test_a_picture_is_decoded(mode, shape):
    assert parse_picture(png((4, 3), mode), "x.png").shape == shape


def declared(width: int, height: int) -> bytes:
    """A small PNG whose header says something else."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    data = png((1, 1))
    return data[:12] + chunk + data[33:]


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", png((4, 3))[:40], png((4, 3)).replace(b"IDAT", b"IDAX"), declared(60_000, 60_000),
     declared(20_000, 5_000), declared(MOST_PIXELS, 2)],
)  # fmt: skip
def test_a_picture_that_is_none_or_too_large_is_one_line(data):
    assert refused(parse_picture, data, "x.png").startswith("x.png: damaged (")


def test_no_module_but_this_one_lists_what_parsers_raise():
    """The kinds of damage are said once; elsewhere `reading` is used."""
    root = Path(__file__).parents[1] / "rc2l_bench"
    strange = ("zlib.error", "lzma.LZMAError", "BadZipFile", "tarfile.TarError", "struct.error", "UnpicklingError")
    named = [file.name for file in root.rglob("*.py") if any(name in file.read_text() for name in strange)]
    assert named == ["readers.py"]
