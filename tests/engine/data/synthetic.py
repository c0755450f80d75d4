"""Sources made of picture files in memory, and the events of opening them."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.data import Dataset, cache, prepare_dataset
from engine.data.decoding.pictures import header_of, opened, parse_picture
from engine.data.request import DataRequest
from engine.data.sources import Header, OpenSource, Source, SourceSplit
from engine.errors import DataError
from engine.events import Event


def file_of(image: Image.Image | np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    written = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(written, kind, **options)
    return written.getvalue()


def noise(number: int, size: tuple[int, int] = (8, 8), mode: str = "L") -> Image.Image:
    """A picture of noise, `size` as (width, height)."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def header(data: bytes) -> Header:
    try:
        with opened(io.BytesIO(data)) as picture:
            return header_of(picture)
    except Exception as error:
        raise DataError(str(error)) from error


def split_of(files: Sequence[bytes], read: Callable[[int], object] = lambda i: None) -> SourceSplit:
    """A split of two classes in turn; `read` is told which files are read to be decoded."""

    def file(i: int) -> bytes:
        read(i)
        return files[i]

    return SourceSplit(
        np.arange(len(files)) % 2,
        lambda i: parse_picture(files[i], f"row {i}"),
        lambda i: header(files[i]),
        file,
        lambda i: f"row {i}",
    )


def source_of(files: Sequence[bytes], read: Callable[[int], object] = lambda i: None) -> Source:
    """These files as the training split, and the first two of them as the test split."""
    parts = split_of(files, read), split_of(files[:2])
    return Source("made", "made here", "made", lambda: OpenSource(("a", "b"), None, None, *parts))


def opened_dataset(source: Source, root: Path, **request: Any) -> tuple[Dataset, list[Event]]:
    """The dataset that is decoded from a source, and the events of it."""
    found, cache.find_source = cache.find_source, lambda _: source
    events: list[Event] = []
    opening = prepare_dataset(DataRequest("made", **request), cache=root)
    try:
        while True:
            events.append(next(opening))
    except StopIteration as end:
        dataset: Dataset = end.value
        return dataset, events
    finally:
        cache.find_source = found
