"""From a source to exactly what will be decoded, with the report on it: the one step between opening and decoding."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from engine.data.dataset import TEST_SHARE, Classes, split_test
from engine.data.labels import Labels, chosen_labels
from engine.data.report import Choice, ClassFacts, DataReport, Listing, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import OpenSource, Source, SourceSplit
from engine.data.survey import MOST_LOOKED, Survey, survey
from engine.errors import DataError
from engine.events import Event, Progress
from engine.runtime.threads import run_in_thread
from engine.settings.presets import preset_resolution


@dataclass(frozen=True)
class Part:
    """A split as it will be decoded."""

    split: SourceSplit
    index: Classes
    """Which images of the split, sorted."""


@dataclass(frozen=True)
class ResolvedData:
    """What will be decoded."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    channels: int
    resolution: int
    request: DataRequest
    report: DataReport
    value_range: tuple[float, float] | None = None
    """Values of black and white in images with more than 8 bits; None where none were seen."""


@dataclass
class Seen:
    """How far `resolve` is, for a thread that waits for it."""

    done: int = 0
    total: int = 0
    """Images to look at; 0 while files are still being listed."""


def resolving(source: Source, request: DataRequest) -> Generator[Event, None, ResolvedData]:
    """`resolve` in a thread, with its progress. Use as `data = yield from resolving(source, request)`."""
    seen = Seen()
    waiting = run_in_thread(lambda: resolve(source, request, seen))
    try:
        while True:
            seconds = next(waiting)
            at = Progress(stage="data", done=0, total=1, unit="datasets", detail=f"opening the files, {seconds:.0f} s")
            if seen.total:
                done = min(seen.done, seen.total)
                at = replace(at, done=done, total=seen.total, unit="images", detail="looking at the images")
            yield at
    except StopIteration as end:
        found: ResolvedData = end.value
        return found
    finally:
        waiting.close()


def resolve(source: Source, request: DataRequest, seen: Seen | None = None) -> ResolvedData:
    """Open a source and decide how it is read. Reads labels and headers; decodes next to nothing.

    Args:
        source: what to open.
        request: how to read it.
        seen: is told how far this is.

    Raises:
        DataError: what is there cannot be used as asked.
        UsageError: it is ambiguous; the message names the setting that settles it.
    """
    opened = source.open()
    labels = chosen_labels(opened, request)
    train, test, made = _parts(labels, request)
    found = survey(_views(labels, seen or Seen()))
    _check_readable(found, request)
    channels = Choice(str(opened.channels), "stated by the source") if opened.channels else found.channels()
    side = _side(opened, request, found)
    shown_range, value_range = found.value_range(request.value_range, skip=request.on_bad_file == "skip")
    counts = [np.bincount(part.split.labels[part.index], minlength=len(labels.classes)) for part in (train, test)]
    report = DataReport(
        name=source.name,
        source=source.description,
        listing=_listing(opened, labels, made, found),
        classes=tuple(ClassFacts(name, int(a), int(b)) for name, a, b in zip(labels.classes, *counts, strict=True)),
        modes=dict(found.modes.most_common()),
        sizes={f"{width} x {height}": count for (width, height), count in found.sizes.most_common()},
        looked=found.looked,
        total=found.total,
        channels=channels,
        resolution=side,
        value_range=shown_range,
        fit=found.fit(request.fit),
    )
    return ResolvedData(train, test, labels.classes, int(channels.value), int(side.value), request, report, value_range)


def _parts(labels: Labels, request: DataRequest) -> tuple[Part, Part, SplitFacts | None]:
    """Training and test images; where the test split had to be made, the facts on it."""
    if labels.test is not None:
        _check_test(labels, np.bincount(labels.test.labels, minlength=len(labels.classes)))
        train, test = labels.train, labels.test
        return Part(train.split, train.index), Part(test.split, test.index), None
    kept, held = split_test(labels.train.labels, labels.classes)
    why = "dataset.test_split = none" if request.test_split == "none" else "there is no test split"
    facts = SplitFacts(
        "test", "test", len(held), "images", f"{why}: {TEST_SHARE:.0%} of each class of train, drawn once"
    )
    split, index = labels.train.split, labels.train.index
    return Part(split, index[kept]), Part(split, index[held]), facts


def _check_test(labels: Labels, sizes: Classes) -> None:
    empty = [labels.classes[k] for k in np.flatnonzero(sizes == 0)]
    if empty:
        more = f" (and {len(empty) - 1} more classes)" if empty[1:] else ""
        raise DataError(
            f"The class {empty[0]!r}{more} has training images but no test images.",
            "Add test images, leave the class out with dataset.classes, or set dataset.test_split = none to hold out "
            "a fifth of the training images instead.",
        )


def _check_readable(found: Survey, request: DataRequest) -> None:
    """Decoding would stop there; it is cheaper to say so now."""
    if found.first_bad is None or request.on_bad_file == "skip":
        return
    if found.bad == 1:
        raise found.first_bad
    raise DataError(
        f"{found.bad:,} images of {request.title} cannot be read. The first: {found.first_bad.message}",
        found.first_bad.hint,
    )


def _listing(opened: OpenSource, labels: Labels, made: SplitFacts | None, found: Survey) -> Listing:
    """What the source says, and what was decided here."""
    listing = opened.listing
    splits = listing.splits
    if all(split.role != "train" for split in splits):  # a plugin that says nothing about itself
        there = (("train", labels.train), *((("test", labels.test),) if labels.test is not None else ()))
        splits = tuple(
            SplitFacts(role, role, len(part.split.labels), "images", "as the source divides them")
            for role, part in there
        )
    return replace(
        listing,
        splits=(*splits, *([made] if made else [])),
        class_order="as listed in the file of dataset.classes" if labels.reordered else listing.class_order,
        left_out=(*listing.left_out, *labels.left_out, *found.left_out()),
        notes=(*listing.notes, *labels.notes, *found.notes()),
    )


def _side(opened: OpenSource, request: DataRequest, found: Survey) -> Choice:
    if request.resolution is not None:
        preset = request.resolution == preset_resolution(request.name)
        return Choice(str(request.resolution), f"preset {request.name}" if preset else "dataset.resolution")
    if opened.resolution is not None:
        return Choice(str(opened.resolution), "stated by the source")
    return found.resolution()


def _views(labels: Labels, seen: Seen) -> Iterator[SourceSplit]:
    """The images that are used, numbered from 0: what is left out must not decide about channels and sizes."""
    parts = [part for part in (labels.train, labels.test) if part is not None]
    seen.total = min(sum(len(part.index) for part in parts), MOST_LOOKED)

    def renumbered(look: Callable[[int], Any] | None, index: Classes) -> Callable[[int], Any] | None:
        if look is None:
            return None

        def counted(i: int) -> Any:
            seen.done += 1
            return look(int(index[i]))

        return counted

    for part in parts:
        looks = {field.name: getattr(part.split, field.name) for field in fields(SourceSplit) if field.name != "labels"}
        yield SourceSplit(part.labels, **{name: renumbered(look, part.index) for name, look in looks.items()})  # type: ignore[arg-type]
