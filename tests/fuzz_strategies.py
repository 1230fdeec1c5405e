"""What fuzzers draw: documents of a typed configuration, absurd values inside documents, damage of bytes."""

from __future__ import annotations

import copy
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rc2l_bench.console import describe
from rc2l_bench.errors import BenchError

Json = Any
Strategy = st.SearchStrategy[Any]

CASES = settings(max_examples=settings.default.max_examples * 3 // 10)
"""Of each test: 30 with a fixed seed, and 600 of chance under `make fuzz`."""
SECONDS = 20
"""Of the processor, for one case; far above what any takes."""
LONGEST = 2000
"""Characters of a message; some quote a part of what is wrong."""
ABSURD: tuple[Json, ...] = (
    None, True, "", "x", "x" * 5000, "a\nb", "\0", "\ud800", "../../x", "--help", "NaN", "[bold]", "${item.x}", "é",
    0, -1, 1, 3, 2**31, 2**63, 2**70, -(2**70), 0.0, -0.0, 0.5, 1e-300, 1e-9, 1e308, -1e308, [], [[]], {}, {"": {}},
    [1, 2], ["a", "a"], {"mode": "whole"}, {"base": "x"}, [0] * 1000,
)  # fmt: skip
TOKENS = (
    b"\xff", b"\0", b"\xc3\xa9", b"\xe9", b"\xef\xbb\xbf", b'"', b"'", b"{", b"[" * 2000, b"{a: " * 2000, b"\n",
    b"\r\n", b",", b"\t",
    b"-1", b"NaN", b"1e999", b"9" * 5000, b"&a [*a, *a]", b"*", b"!!python/object:os.system x", b"<<: 1",
    b"%", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0" * 512, b"x" * 140_000,
)  # fmt: skip


def documents(model: type[BaseModel]) -> Strategy:
    """Documents that keep to the types, bounds and keys of a model, often at the bounds; relations may be broken."""
    schema = model.model_json_schema()
    return _of(schema, schema.get("$defs", {}))


def _of(node: dict[str, Json], known: dict[str, Json]) -> Strategy:
    if "$ref" in node:
        return st.deferred(lambda: _of(known[node["$ref"].rpartition("/")[2]], known))
    if choices := node.get("anyOf") or node.get("oneOf"):
        return st.one_of([_of(choice, known) for choice in choices])
    if "const" in node or "enum" in node:
        return st.sampled_from(node.get("enum") or [node["const"]])
    kinds = {"integer": _whole, "number": _real, "string": _text, "boolean": lambda _: st.booleans(),
             "null": lambda _: st.none()}  # fmt: skip
    if node["type"] in kinds:
        return kinds[node["type"]](node)
    return _list(node, known) if node["type"] == "array" else _keys(node, known)


def _whole(node: dict[str, Json]) -> Strategy:
    step, low, high = node.get("multipleOf", 1), node.get("minimum", -(2**40)), node.get("maximum", 2**40)
    inside = st.integers(-(-low // step), high // step)
    return st.one_of(st.sampled_from([-(-low // step), high // step]), inside).map(lambda number: number * step)


def _real(node: dict[str, Json]) -> Strategy:
    low, high = (node.get(kind, node.get(f"exclusive{kind.title()}", most)) for kind, most in
                 (("minimum", -1e9), ("maximum", 1e9)))  # fmt: skip
    options = {"exclude_min": "exclusiveMinimum" in node, "exclude_max": "exclusiveMaximum" in node}
    ends = [low] * (not options["exclude_min"]) + [high] * (not options["exclude_max"])
    inside = st.floats(low, high, allow_nan=False, **options)
    return st.one_of(st.sampled_from(ends), inside) if ends else inside


def _text(node: dict[str, Json]) -> Strategy:
    most = node.get("maxLength", 60)
    if "pattern" not in node:
        return st.text(max_size=most)
    return st.from_regex(re.compile(node["pattern"], re.ASCII)).map(lambda text: text[:most])


def _list(node: dict[str, Json], known: dict[str, Json]) -> Strategy:
    if "prefixItems" in node:
        return st.tuples(*[_of(item, known) for item in node["prefixItems"]]).map(list)
    least = node.get("minItems", 0)
    return st.lists(_of(node["items"], known), min_size=least, max_size=least + 2)


def _keys(node: dict[str, Json], known: dict[str, Json]) -> Strategy:
    if "properties" not in node:
        inner = node.get("additionalProperties", True)
        values = _of(inner, known) if isinstance(inner, dict) and inner else st.sampled_from([1, "x"])
        return st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), values, max_size=2)
    needed = set(node.get("required", ()))
    given = {name: _of(inner, known) for name, inner in node["properties"].items()}
    return st.fixed_dictionaries(
        {name: one for name, one in given.items() if name in needed},
        optional={name: one for name, one in given.items() if name not in needed},
    )


@st.composite
def changed(draw: st.DrawFn, document: Json) -> Json:
    """A document with one to three absurd values, missing keys or unknown ones, wherever."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return document
        holder, key = draw(st.sampled_from(places))
        way = draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if way == "remove":
            del holder[key]
        elif way == "rename" and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ABSURD)))
    return document


def _places(document: Json) -> Iterator[tuple[Json, Json]]:
    """Every container inside a document with every key or position of it."""
    keys = document.keys() if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        yield document, key
        yield from _places(document[key])


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with one to four kinds of damage: flipped, cut off, left out, repeated, overwritten, put in."""
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(1, 64))
        way = draw(st.sampled_from(["flip", "flip", "cut", "leave out", "repeat", "overwrite", "put in", "number"]))
        if way == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif way == "cut":
            data = data[:at]
        elif way == "leave out":
            data = data[:at] + data[at + length :]
        elif way == "repeat":
            data = data[:at] + data[at : at + length] * draw(st.sampled_from([2, 50])) + data[at + length :]
        elif way == "number" and (numbers := list(re.finditer(rb"[0-9.]+", data[at : at + 4096]))):
            found = draw(st.sampled_from(numbers))
            other = draw(st.sampled_from([b"-1", b"0", b"1e308", b"9" * 400, b"NaN", b"", b"18446744073709551616"]))
            data = data[: at + found.start()] + other + data[at + found.end() :]
        else:
            token = draw(st.sampled_from(TOKENS))
            data = data[:at] + token + data[at + (len(token) if way == "overwrite" else 0) :]
    return data


@contextmanager
def one_line_or_none(name: str) -> Iterator[None]:
    """Whatever a body is given, it ends well or in one line that names the thing, and it ends.

    Args:
        name: that has to be in the line.
    """

    def stop(*_: object) -> None:
        raise AssertionError(f"{name}: is not done after {SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    except (BenchError, OSError) as error:
        line = describe(error) if isinstance(error, OSError) else str(error)
        assert "\n" not in line, line
        assert name in line, line
        assert len(line) <= LONGEST, line
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def bounded_memory(mebibytes: int) -> Iterator[None]:
    """Make sure that the memory of this process does not grow by more than that, not even for a moment."""
    peak = Path("/proc/self/clear_refs")
    if peak.exists():  # Linux
        peak.write_text("5")  # the peak begins anew
    before = _peak()
    yield
    assert _peak() - before < mebibytes


def _peak() -> int:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+([0-9]+)", status.read_text()) if status.exists() else None
    return int(found[1]) >> 10 if found else 0
