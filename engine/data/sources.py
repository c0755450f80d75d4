"""What a dataset's source is: it lists labels, and gives one image at a time. `engine.data.registry` finds one."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.dataset import Classes
from engine.data.decoding.pictures import Header
from engine.data.report import Listing

__all__ = ["EVERY", "Header", "OpenSource", "Source", "SourceSplit", "file_key", "natural_key"]


@dataclass(frozen=True)
class SourceSplit:
    """One split: class numbers and a way to one image."""

    labels: Classes
    """`(N,)`; below 0 where an image has no class."""
    image: Callable[[int], Any]
    """`image(i)` -> array `(H, W)` / `(H, W, 3)`, or a PIL image; DataError if it is none. From any thread."""
    header: Callable[[int], Header] | None = None
    """`header(i)` without decoding; DataError if it is no picture. None: `image(i)` is as cheap."""
    file: Callable[[int], bytes] | None = None
    """`file(i)` -> the bytes of a picture file, so that other processes can decode it; DataError if there is none.
    Called with ascending `i` from one thread, so a table may keep the rows it has unpacked. None: use `image`."""
    name: Callable[[int], str] | None = None
    """`name(i)` -> what to call the image in a message: its path, or its row."""


@dataclass(frozen=True)
class OpenSource:
    """A source whose contents are known, as it is: `engine.data.resolve` applies what the user asked for."""

    classes: tuple[str, ...]
    channels: int | None
    """1 or 3; None: from the images."""
    resolution: int | None
    """Side of the images; None: from the images."""
    train: SourceSplit
    test: SourceSplit | None
    """None: a held-out part of `train` is to be made."""
    listing: Listing = field(default_factory=Listing)


@dataclass(frozen=True)
class Preview:
    """What the publisher says about a dataset that is not downloaded."""

    listing: Listing
    classes: tuple[str, ...]
    """Empty where it does not say."""
    download: int
    """Bytes to download; 0 where it does not say."""


@dataclass(frozen=True)
class Source:
    """A dataset that has been located, not yet read."""

    name: str
    description: str
    key: str
    """Identifies the contents as well as can be known without reading them."""
    open: Callable[[], OpenSource]
    local: bool = True
    """Whether its files are on this machine; otherwise opening it downloads them."""
    reads: frozenset[str] = frozenset()
    """Settings of `[dataset]` that this source reads, besides those that apply to every dataset (`EVERY`)."""
    preview: Callable[[], Preview] | None = None
    """What is known before anything is downloaded; None: opening downloads nothing. Raises as `open`."""


EVERY = frozenset({"resolution", "classes", "value_range", "fit", "invalid_labels", "on_bad_file"})
"""Settings that `engine.data.resolve` and decoding apply to any source."""


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `2` before `10`; different texts never tie (`1`, `01`), so an order is the same everywhere."""
    # isdecimal, not isdigit: int() refuses digits such as a superscript two.
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
    return [*parts, (-1, 0, text)]


def natural_order(names: Sequence[str]) -> list[str]:
    """The names sorted by `natural_key`. Millions of them take seconds if they differ in one number, as is usual."""
    if len(names) < 2:
        return list(names)
    first, last = min(names), max(names)
    backwards = [name[::-1] for name in names]
    start, end = _common(first, last).rstrip("0123456789"), _common(min(backwards), max(backwards)).rstrip("0123456789")
    stop = -len(end) or None
    middles = [name[len(start) : stop] for name in names]
    if all(middle.isascii() and middle.isdecimal() for middle in middles):
        numbers = map(int, middles)
        return [name for _, name in sorted(zip(numbers, names, strict=True))]
    return sorted(names, key=natural_key)


def _common(first: str, last: str) -> str:
    """What the first and the last of sorted texts begin with, and so all of them."""
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def file_key(paths: Sequence[Path]) -> str:
    """Digest over names, sizes and times of files: changes when one of them does."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
