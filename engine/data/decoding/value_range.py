"""Which values are black and white in images with more than 8 bits: one range for a dataset, never one per image."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from engine.data.decoding.pictures import ROUNDING
from engine.data.report import Choice
from engine.data.sources import SourceSplit
from engine.errors import DataError, UsageError

MOST_MEASURED = 500
"""Images with more than 8 bits that are decoded to see their values; of more, an even share."""
BITS = (8, 10, 12, 14, 16)
"""Bits of a pixel that cameras and scanners are known to have."""
Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """Values of the images with more than 8 bits."""

    low: float
    high: float
    integers: bool
    """Whether the images hold integers."""
    floats: bool
    """Whether images hold floating-point numbers (both: a mixture)."""
    whole: bool
    """Whether every value is a whole number."""
    measured: int
    """Images that were decoded."""
    count: int
    """Images with more than 8 bits among those looked at."""

    @property
    def words(self) -> str:
        """What was measured, for people."""
        kind = "numbers of both kinds" if self.integers and self.floats else "floats" if self.floats else "integers"
        which = f"all {self.count:,}" if self.measured == self.count else f"{self.measured:,} of {self.count:,}"
        return f"{kind} of {_number(self.low)}..{_number(self.high)} in {which} images with more than 8 bits"


def measure(images: Sequence[tuple[SourceSplit, int]]) -> Ranges | None:
    """Decode images, or an even share of them, for their smallest and greatest value.

    Args:
        images: those with more than 8 bits, as splits and numbers. What cannot be decoded is the decoder's to refuse.

    Returns:
        None where there are none.
    """
    low, high, kinds, whole, measured = math.inf, -math.inf, set(), True, 0
    for part, i in images[:: max(1, -(-len(images) // MOST_MEASURED))]:
        with suppress(DataError, ValueError, OSError):
            values = np.asarray(part.image(i))
            if np.isfinite((values.min(), values.max())).all():
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                kinds.add(values.dtype.kind == "f")
                whole = whole and (values.dtype.kind != "f" or bool((values == np.round(values)).all()))
                measured += 1
    return Ranges(low, high, False in kinds, True in kinds, whole, measured, len(images)) if measured else None


def value_range(
    asked: Range | None, found: Ranges | None, *, everything: bool, skip: bool = False
) -> tuple[Choice, Range | None]:
    """The range of a dataset, for people and for decoding; None for decoding where no image needs one.

    Args:
        asked: dataset.value_range.
        found: the values of the images with more than 8 bits.
        everything: whether all images were looked at.
        skip: whether images with other values are left out.

    Raises:
        UsageError: the range asked for is none, too small, or has no effect; or it is ambiguous, with what could be
            meant.
    """
    if asked is not None and not (all(map(math.isfinite, asked)) and asked[0] < asked[1]):
        raise UsageError(
            f"dataset.value_range = {list(asked)} is no range.", "Write the value of black, then that of white."
        )
    if found is None:
        if asked is not None and asked != (0, 255) and everything:
            raise UsageError(
                f"dataset.value_range = {_listed(*asked)} has no effect: all images have 8 bits.",
                "Remove dataset.value_range.",
            )
        return Choice("0..255", "8-bit images"), asked
    if asked is not None and not skip:
        slack = ROUNDING * (asked[1] - asked[0])
        if found.low < asked[0] - slack or found.high > asked[1] + slack:
            least = _listed(min(asked[0], found.low), max(asked[1], found.high))
            raise UsageError(
                f"dataset.value_range = {_listed(*asked)} does not hold all values: {found.words}.",
                f"Set it to at least {least}, or leave out images with other values with dataset.on_bad_file = skip.",
            )
    chosen, why = (asked, "dataset.value_range") if asked is not None else _inferred(found)
    return Choice(
        f"{_number(chosen[0])}..{_number(chosen[1])}", f"{why}; measured: {found.words}; 8-bit images: 0..255"
    ), chosen


def _inferred(found: Ranges) -> tuple[Range, str]:
    """The only plausible range, and why."""
    if not (found.integers and found.floats) and found.low >= 0:
        if found.floats and 0.5 < found.high <= 1:
            return (0, 1), "floats that fill 0 to 1"
        if found.whole and 127 < found.high <= 255:
            return (0, 255), "whole numbers that fill 8 bits"
        if found.integers and 32767 < found.high <= 65535:
            return (0, 65535), "integers that fill 16 bits"
    plausible = _plausible(found)
    raise UsageError(
        f"Which values are black and white is ambiguous: {found.words}.",
        f"Set dataset.value_range, as {_listed(*plausible[0])}. "
        f"Plausible: {', '.join(_named(*one) for one in plausible)}.",
    )


def _plausible(found: Ranges) -> list[Range]:
    if found.low < 0:
        reach = max(-found.low, found.high)
        ranges: list[Range] = [(-1, 1)] if reach <= 1 else []
        ranges += [(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) for bits in (8, 16)] if found.whole else []
    else:
        ranges = [(0, 1)] if found.high <= 1 else []
        ranges += [(0, 100)] if found.floats and found.high <= 100 else []
        ranges += [(0, 2.0**bits - 1) for bits in BITS]
    fitting = [one for one in ranges if one[0] <= found.low and found.high <= one[1]]
    low = math.floor(found.low)
    return fitting or [(low, max(low + 1, math.ceil(found.high)))]


def _named(low: float, high: float) -> str:
    bits = math.log2(high - low + 1)
    return f"{_number(low)}..{_number(high)}" + (f" ({bits:.0f}-bit)" if bits in BITS else "")


def _listed(low: float, high: float) -> str:
    return f"[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    """A number for people, whole ones with all digits: it can be typed as a setting."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:g}"
