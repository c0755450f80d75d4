"""What decoding found out that no header says: what was left out, resized and made square."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from engine.data.decoding.unfinished import Record
from engine.data.report import BAD_REASON, SKIPPED, Choice, ClassFacts, DataReport, LeftOut
from engine.data.resolve import ResolvedData
from engine.data.survey import fit_words
from engine.errors import counted
from engine.events import Event, Notice

EXAMPLES = 10
"""Messages that a report shows of images left out."""


def warn_after(data: ResolvedData, record: Record) -> Iterator[Event]:
    """Warnings about what the report before decoding could not tell."""
    listed = [kind for kind in data.report.listing.left_out if kind.reason == BAD_REASON]
    bad = _bad(record)
    if count := bad + sum(kind.count for kind in listed):
        messages = list(dict.fromkeys([example for kind in listed for example in kind.examples] + record.messages))
        shown = ", ".join(messages[:3]) + (", ..." if count > min(3, len(messages)) else "")
        yield Notice(level="warning", message=f"{count:,} bad file{'s were' if count > 1 else ' was'} skipped: {shown}")
    if data.report.looked < data.report.total:
        splits = record.splits.values()
        resized, not_square = sum(split.resized for split in splits), sum(split.not_square for split in splits)
        side = data.resolution
        if resized and data.report.sizes.keys() == {f"{side} x {side}"}:
            message = f"{resized:,} images were not {side} x {side}, as those that were looked at, and were resized."
            yield Notice(level="warning", message=message)
        if not_square and all(len(set(size.split(" x "))) == 1 for size in data.report.sizes):
            words = fit_words(data.request.fit, not_square, record.done - bad)
            yield Notice(level="warning", message=f"{words[0].upper()}{words[1:]}.")


def report_after(data: ResolvedData, record: Record) -> DataReport:
    """The report of a dataset, with what was really decoded."""
    report = data.report
    bad = _bad(record)
    listing = report.listing
    if bad:
        one = LeftOut(counted(bad, "image"), bad, SKIPPED, tuple(dict.fromkeys(record.messages))[:EXAMPLES])
        others = (kind for kind in listing.left_out if kind.reason != SKIPPED)  # counted again, now for certain
        listing = replace(listing, left_out=(*others, one))
    counts = []
    for name, part in (("train", data.train), ("test", data.test)):
        good = np.delete(part.index, record.splits[name].bad)
        counts.append(np.bincount(part.split.labels[good], minlength=len(data.classes)))
    channels, fit = report.channels, report.fit
    if record.channels != data.channels:
        channels = Choice(str(record.channels), "while decoding, images in colour were found")
    if report.looked < report.total:
        not_square = sum(split.not_square for split in record.splits.values())
        fit = Choice(fit.value, fit_words(data.request.fit, not_square, record.done - bad))
    classes = tuple(ClassFacts(name, int(a), int(b)) for name, a, b in zip(data.classes, *counts, strict=True))
    return replace(report, listing=listing, classes=classes, channels=channels, fit=fit)


def _bad(record: Record) -> int:
    return sum(len(split.bad) for split in record.splits.values())
