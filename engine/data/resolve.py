"""From a source to exactly what will be decoded, with the report on it: the one step between opening and decoding."""

from dataclasses import dataclass, replace

import numpy as np

from engine.data.dataset import TEST_SHARE, Classes, split_test
from engine.data.report import Choice, ClassFacts, DataReport, SplitFacts
from engine.data.request import DataRequest
from engine.data.sources import EVERY, Source, SourceSplit
from engine.data.survey import survey
from engine.errors import DataError, UsageError


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


def check_request(source: Source, request: DataRequest) -> None:
    """Refuse settings that the source does not read.

    Raises:
        UsageError: names the setting.
    """
    for key, value in request.changed().items():
        if key != "path" and key not in EVERY | source.reads:
            raise UsageError(
                f"dataset.{key} = {value} has no effect on {source.description}.", f"Remove dataset.{key}."
            )


def resolve(source: Source, request: DataRequest) -> ResolvedData:
    """Open a source and decide how it is read. Reads labels and headers; decodes next to nothing.

    Raises:
        DataError: what is there cannot be used as asked.
        UsageError: it is ambiguous, or a setting does not apply; the message names the setting.
    """
    check_request(source, request)
    opened = source.open()
    if len(opened.classes) < 2:
        raise DataError(f"{source.name} has only one class.", "Use a dataset with at least two.")
    listing = opened.listing
    if opened.test is None:
        kept, held = split_test(opened.train.labels, opened.classes)
        train, test = Part(opened.train, kept), Part(opened.train, held)
        why = f"made here: there is no test split, so {TEST_SHARE:.0%} of each class of train are set aside"
        listing = replace(listing, splits=(*listing.splits, SplitFacts("test", "test", len(held), "images", why)))
    else:
        train, test = _whole(opened.train), _whole(opened.test)
    found = survey(split for split in (opened.train, opened.test) if split is not None)
    channels = Choice(str(opened.channels), "stated by the source") if opened.channels else found.channels()
    if request.resolution is not None:
        side = Choice(str(request.resolution), "dataset.resolution")
    elif opened.resolution is not None:
        side = Choice(str(opened.resolution), "stated by the source")
    else:
        side = found.resolution()
    shown_range, value_range = found.value_range(request.value_range)
    listing = replace(listing, notes=(*listing.notes, *found.notes()))
    counts = [np.bincount(part.split.labels[part.index], minlength=len(opened.classes)) for part in (train, test)]
    report = DataReport(
        name=source.name,
        source=source.description,
        listing=listing,
        classes=tuple(ClassFacts(name, int(a), int(b)) for name, a, b in zip(opened.classes, *counts, strict=False)),
        modes=dict(found.modes.most_common()),
        sizes={f"{width} x {height}": count for (width, height), count in found.sizes.most_common()},
        looked=found.looked,
        total=found.total,
        channels=channels,
        resolution=side,
        value_range=shown_range,
        fit=found.fit(request.fit),
    )
    return ResolvedData(train, test, opened.classes, int(channels.value), int(side.value), request, report, value_range)


def _whole(split: SourceSplit) -> Part:
    return Part(split, np.arange(len(split.labels)))
