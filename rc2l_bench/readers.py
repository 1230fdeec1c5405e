"""Readers of files that somebody else may have written, cut off or damaged: sizes are checked before contents.

Every such file comes in through this module, and `FAULTS` is the one list of what its content can raise.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import lzma
import math
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from rc2l_bench.errors import BenchError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIB = 1 << 20
MOST_TEXT = 16 * MIB
"""Largest text, table or JSON, bytes: its objects take up to twenty times as much memory. Our largest, the metrics of a
long training, have some hundred KB."""
MOST_ARRAY = 640 * MIB
"""Largest array, bytes: counts of 5,000 images with 171 classes (COCO-Stuff) have 585 MB."""
MOST_PICTURE_FILE = 1 << 28
"""Largest file of an image or a mask, bytes; an uncompressed photograph of 60 megapixels has 180 MB."""
MOST_PIXELS = 1 << 24
"""Largest picture of a report, pixels; the images of Cityscapes have 2^21."""

FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError,
    ValueError, csv.Error, lzma.LZMAError, pickle.PickleError, struct.error, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What parsers raise on damaged bytes, some by their documentation and more by experience: RecursionError is a
RuntimeError, UnicodeError and pandas' ParserError are ValueErrors, Pillow raises SyntaxError for broken PNG chunks."""

UNREADABLE: tuple[type[Exception], ...] = (OSError, *FAULTS)
"""The same, and what the operating system says of a file."""


class DamagedFileError(BenchError, ValueError):
    """A file is not what it should be."""


class ArrayForm(NamedTuple):
    """What an array in an npz has to look like.

    Attributes:
        dtype: numpy's name of a number type, or `U` for text of any length.
        axes: number of axes.
    """

    dtype: str
    axes: int


@contextmanager
def reading(path: Path | str, hint: str = "") -> Iterator[None]:
    """Tell whatever the content of a file raises in one line that names the file.

    Args:
        path: the file, or what to call it.
        hint: what to do about it.

    Raises:
        DamagedFileError: the body raised one of `FAULTS`. What already has a line of its own passes unchanged.
    """
    try:
        yield
    except BenchError:
        raise
    except OSError as error:
        # Disks and permissions have an error number; what has none is Pillow, gzip or bz2 speaking of the content, and
        # EINVAL comes of a place before the beginning of the file, where the content says that something lies.
        if error.errno not in (None, errno.EINVAL):
            error.filename = error.filename or str(path)
            raise
        raise DamagedFileError(f"{path}: {first_line(error)}{f': {hint}' if hint else ''}") from None
    except FAULTS as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of the device: the file is not to blame
            raise
        raise DamagedFileError(f"{path}: {first_line(error)}{f': {hint}' if hint else ''}") from None


def first_line(error: BaseException) -> str:
    """Describe an error in at most 160 characters; by its type where it has no words."""
    text = one_line(error)[:160]
    if isinstance(error, KeyError):
        return f"has no {text}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, MemoryError):
        return "claims to need more memory than there is"
    return f"damaged ({text})"


def read_bytes(path: Path, most: int = MOST_TEXT) -> bytes:
    """Read a whole file.

    Args:
        path: a regular file or a link to one.
        most: bytes that it may have.

    Raises:
        OSError: it is missing or may not be read; the error holds its name.
        DamagedFileError: it is no regular file (a pipe would be waited for without end), or is too large.
    """
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(21, "is a folder, expected a file", str(path))
    if not stat.S_ISREG(state.st_mode):
        raise DamagedFileError(f"{path}: is a pipe or device, expected a file")
    if state.st_size > most:
        raise DamagedFileError(f"{path}: has {state.st_size:,} bytes, expected at most {most:,}")
    with path.open("rb") as file:
        data = file.read(most + 1)  # it may grow meanwhile
    if len(data) > most:
        raise DamagedFileError(f"{path}: has more than {most:,} bytes")
    return data


def read_picture_file(path: Path) -> bytes:
    """Read the file of an image or a mask; see `read_bytes`."""
    return read_bytes(path, MOST_PICTURE_FILE)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Read a file of UTF-8, with or without a byte order mark; see `read_bytes`."""
    return parse_text(read_bytes(path, most), path)


def read_json(path: Path, most: int = MOST_TEXT) -> Any:  # noqa: ANN401 - JSON holds anything
    """Read a file of JSON; see `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, most), path)


def parse_text(data: bytes, path: Path | str) -> str:
    """Decode UTF-8.

    Raises:
        DamagedFileError: it is something else; names the first such byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFileError(
            f"{path}: not text in UTF-8: byte {data[error.start]:#04x} at position {error.start}"
        ) from None


def parse_json(data: bytes, path: Path | str) -> Any:  # noqa: ANN401 - JSON holds anything
    """Parse JSON of finite numbers.

    Raises:
        DamagedFileError: it is cut off, nested too deeply, or holds what is not JSON (NaN and Infinity, too).
    """
    text = parse_text(data, path)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DamagedFileError(f"{path}: not valid JSON ({first_line(error)})") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def parse_rows(text: str, path: Path | str) -> list[list[str]]:
    """Split CSV into rows of fields.

    Raises:
        DamagedFileError: a field is longer than 128 KiB, or a quote is never closed.
    """
    with reading(path):
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def parse_arrays(data: bytes, path: Path | str, wanted: Mapping[str, ArrayForm]) -> dict[str, NDArray[Any]]:
    """Take arrays out of an npz. Headers are checked before memory is allocated, and nothing is unpickled.

    Args:
        data: the bytes of the file.
        path: what to call it.
        wanted: name and form of every array to take.

    Raises:
        DamagedFileError: it is no npz, or an array is missing, too large, or of another form.
    """
    with reading(path), zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: _read_array(archive, name, form) for name, form in wanted.items()}


def _read_array(archive: zipfile.ZipFile, name: str, form: ArrayForm) -> NDArray[Any]:
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, dtype = header(member)
        _check_form(name, shape, dtype, form)
        size = math.prod(shape) * dtype.itemsize
        body = member.read(size + 1)  # the end of a member is where zipfile compares its CRC
    if len(body) != size:
        raise ValueError(f"'{name}' holds {'more' if len(body) > size else 'fewer'} than the {size} bytes it promises")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if by_columns else "C")


def _check_form(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], form: ArrayForm) -> None:
    fits = dtype.kind == "U" if form.dtype == "U" else dtype == form.dtype
    if not fits or len(shape) != form.axes:
        raise ValueError(f"'{name}' is {dtype} with {len(shape)} axes, expected {form.dtype} with {form.axes}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > MOST_ARRAY:
        raise ValueError(f"'{name}' has the shape {shape}, expected at most {MOST_ARRAY:,} bytes")


def parse_picture(data: bytes, path: Path | str) -> NDArray[np.uint8]:
    """Decode a PNG of a report.

    Returns:
        (H, W) of a grey or palette picture, else (H, W, 3).

    Raises:
        DamagedFileError: it is no PNG, damaged, or has more than `MOST_PIXELS`.
    """
    import numpy as np
    from PIL import Image

    with reading(path):
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"{picture.height}×{picture.width} pixels, expected at most {MOST_PIXELS:,}")
                return np.array(picture if picture.mode in ("P", "L") else picture.convert("RGB"), dtype=np.uint8)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # larger still
            raise ValueError(str(error)) from None
