"""What a reader of untrusted files is to the fuzzer, and the ways to spoil what it reads."""

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tests.conftest import TINY
from tests.fuzz.mutations import as_json, damage, damaged, edited, edits

Spoil = st.SearchStrategy[Callable[[Path], None]]


@dataclass(frozen=True)
class Reader:
    """One reader."""

    name: str
    lay: Callable[[Path], None]
    """Write what is valid into an empty folder."""
    spoil: Spoil
    """Ways to spoil it."""
    read: Callable[[Path], object]
    share: float = 1.0
    """Of the inputs of a fast reader, how many it gets."""


def workspace(folder: Path) -> Workspace:
    (folder / "tesla.toml").exists() or (folder / "tesla.toml").write_text('[dataset]\nname = "digits"\n')
    return Workspace(folder)


SETTINGS = resolve_settings(overrides=["dataset.name=digits", *TINY])


def with_run(folder: Path) -> None:
    run = workspace(folder).run("r")
    (run.folder / "evaluations").mkdir(parents=True)
    run.freeze(SETTINGS)


def any_damage(*names: str) -> Spoil:
    """Bytes of one of the files are flipped, cut, spliced, repeated, overwritten."""

    def apply(name: str, changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            path.write_bytes(damaged(path.read_bytes(), changes))

        return change

    return st.builds(apply, st.sampled_from(names), damage)


def json_edits(*names: str) -> Spoil:
    """Values in one of the files are replaced by anything JSON can say, and some things it cannot."""

    def apply(name: str, changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            path.write_bytes(as_json(edited(json.loads(path.read_bytes()), changes)))

        return change

    return st.builds(apply, st.sampled_from(names), edits)


def line_edits(name: str) -> Spoil:
    """Values in one line are replaced; lines are repeated."""

    def apply(where: float, changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            lines = path.read_bytes().splitlines()
            at = int(where * len(lines))
            lines[at] = as_json(edited(json.loads(lines[at]), changes))
            path.write_bytes(b"\n".join(lines) + b"\n")

        return change

    return st.builds(apply, st.floats(0, 1, exclude_max=True), edits)


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    return '""' if value is None else json.dumps(value)


def toml_edits(name: str) -> Spoil:
    import tomllib

    def apply(changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            table = edited(tomllib.loads(path.read_text()), changes)
            if not isinstance(table, dict):
                table = {"value": table}
            text = "\n".join(f"{json.dumps(key)} = {toml_value(value)}" for key, value in table.items())
            path.write_bytes(text.encode(errors="surrogatepass"))

        return change

    return st.builds(apply, edits)


def tensor_edits(name: str, *, sealed: bool) -> Spoil:
    """The header of a safetensors file says something else. `sealed`: the checksum beside it is made to fit."""

    def apply(changes: Any, extra: bytes) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            data = path.read_bytes()
            length = int.from_bytes(data[:8], "little")
            text = as_json(edited(json.loads(data[8 : 8 + length]), changes))
            path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :] + extra)
            if sealed:
                seal(path)

        return change

    return st.builds(apply, edits, st.sampled_from([b"", b"", bytes(64)]))


def seal(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_bytes())
    record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_bytes(as_json(record))


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def frame_edits(name: str) -> Spoil:
    """The embedded layout lies, or the size in the PNG's header does; checksums fit."""

    def apply(changes: Any, sizes: Any, zipped: bool) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            parts = []
            for kind, data in chunks(path.read_bytes()):
                if kind == b"iTXt":
                    keyword, rest = data.split(b"\0", 1)
                    layout = json.loads(zlib.decompress(rest[4:]))
                    text = as_json(edited(layout, changes))
                    body = zlib.compress(text) if zipped else text
                    data = keyword + b"\0" + bytes([zipped, 0, 0, 0]) + body
                elif kind == b"IHDR" and sizes is not None:
                    data = struct.pack(">II", *sizes) + data[8:]
                parts.append((kind, data))
            path.write_bytes(png_of(parts))

        return change

    sides = st.sampled_from([0, 1, 2, 18, 352, 10_000, 2**20, 2**31 - 1])
    return st.builds(apply, edits, st.none() | st.tuples(sides, sides), st.booleans())


def idx_edits(name: str) -> Spoil:
    """The header inside the gzip stream lies, or the contents end early or late."""

    def apply(changes: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            path.write_bytes(gzip.compress(damaged(gzip.decompress(path.read_bytes()), changes), 1))

        return change

    return st.builds(apply, damage)
