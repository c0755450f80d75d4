"""What a hostile hand does to a valid file: to its bytes, and to the values in it."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

INTERESTING = (0, 1, 2, 7, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)

Bytes = Callable[[bytes], bytes]
place = st.floats(0, 1, exclude_max=True)


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([*INTERESTING, *(-n for n in INTERESTING), 10**400])
    | st.integers()
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")])
    | st.text(max_size=20)
    | st.sampled_from(["", "\x1b]52;c;x\x07", "../../x", "/etc/passwd", "\x00", "\ud800", "[red]", "a" * 5000, "auto"])
)
values = scalars | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@st.composite
def _flip(draw: st.DrawFn) -> Bytes:
    where, bit = draw(place), draw(st.integers(0, 7))

    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] if data else data

    return change


@st.composite
def _cut(draw: st.DrawFn) -> Bytes:
    where = draw(place)
    return lambda data: data[: int(where * len(data))]


@st.composite
def _splice(draw: st.DrawFn) -> Bytes:
    where, new, over = draw(place), draw(st.binary(min_size=1, max_size=40)), draw(st.booleans())

    def change(data: bytes) -> bytes:
        at = int(where * len(data))
        return data[:at] + new + data[at + len(new) * over :]

    return change


@st.composite
def _repeat(draw: st.DrawFn) -> Bytes:
    begin, length, times = draw(place), draw(st.integers(1, 200)), draw(st.integers(1, 50))

    def change(data: bytes) -> bytes:
        at = int(begin * len(data))
        return data[:at] + data[at : at + length] * times + data[at:]

    return change


@st.composite
def _number(draw: st.DrawFn) -> Bytes:
    where, value = draw(place), draw(st.sampled_from(INTERESTING))
    size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
    # Headers are where numbers decide something: half of them go there.
    early = draw(st.booleans())

    def change(data: bytes) -> bytes:
        at = int(where * (min(len(data), 64) if early else len(data)))
        return data[:at] + (value % 2 ** (8 * size)).to_bytes(size, order) + data[at + size :]

    return change


damage = st.lists(st.one_of(_flip(), _cut(), _splice(), _repeat(), _number()), min_size=1, max_size=4)


def damaged(data: bytes, changes: list[Bytes]) -> bytes:
    for change in changes:
        data = change(data)
    return data


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            found += _places(inner, (*path, key))
    return found


Edit = tuple[float, str, Any]
edits = st.lists(
    st.tuples(place, st.sampled_from(["set", "set", "set", "drop", "add"]), values), min_size=1, max_size=3
)


def edited(value: Any, changes: list[Edit]) -> Any:
    """A JSON value with some of its parts replaced, removed or added to."""
    value = json.loads(json.dumps(value))
    for where, what, new in changes:
        places = _places(value)
        path = places[int(where * len(places))]
        if not path:
            if what == "set" and where == 0:
                return new
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        if what == "drop":
            del parent[path[-1]]
        elif what == "add" and isinstance(parent, list):
            parent.append(new)
        elif what == "add":
            parent["added"] = new
        else:
            parent[path[-1]] = new
    return value


def as_json(value: Any) -> bytes:
    """As a hostile writer would: infinities, lone surrogates and all."""
    return json.dumps(value).encode()
