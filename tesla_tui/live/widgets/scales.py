"""The scales of a chart: round numbers with the digits that tell them apart, at least two on an axis."""

import math
from collections.abc import Iterator
from itertools import pairwise

WIDEST = 12
"""Columns of a y scale, at most."""
DIGITS = WIDEST - 1
"""Characters of a label, at most."""


def y_labels(low: float, high: float, rows: int, *, logarithmic: bool = False, percent: bool = False) -> dict[int, str]:
    """The scale of y, a label by row, at most one in two rows.

    Args:
        low: value at the bottom edge; its log10 if `logarithmic`.
        high: value at the top edge, in the same scale.
        rows: of characters.
        logarithmic: positions are log10 of the values.
        percent: values are shares of 1.
    """
    factor, sign = (100.0, " %") if percent else (1.0, "")
    for distance in (2, 1):
        for most in (max(3, rows // 3), max(3, rows // 2), 2):
            for values in _round_values(low, high, most, logarithmic):
                found = _by_row(values, low, high, rows, logarithmic)
                if len(found) > 1 and all(b - a >= distance for a, b in pairwise(found)):
                    return _written(found, factor, sign, logarithmic)
    half = (high - low) / rows / 2
    ends = {0: high - half, max(rows - 1, 1): low + half}
    return _written({row: 10**at if logarithmic else at for row, at in ends.items()}, factor, sign, logarithmic)


def x_labels(first: float, last: float, columns: int, unit: str) -> str:
    """The scale of x as a line of text: both ends, and round numbers between them where there is room."""
    line = [" "] * columns

    def free(start: int, end: int) -> bool:
        return start >= 0 and end <= columns and not "".join(line[max(0, start - 2) : end + 2]).strip()

    def put(text: str, start: int) -> None:
        if free(start, start + len(text)):
            line[start : start + len(text)] = text

    left, right = f"{first:.0f}", f"{last:.0f}"
    if columns > 50:
        right = f"{unit} {right}"
    put(left, 0)
    put(right, columns - len(right))
    for tick in ticks(first, last, max(2, columns // 12)):
        text = f"{tick:.0f}"
        if tick == round(tick):
            put(text, round((tick - first) / (last - first) * (columns - 1)) - len(text) // 2)
    return "".join(line)


def rounded_end(first: float, last: float) -> float:
    """A round end of a growing x scale, at most a tenth beyond the last point."""
    span = last - first
    if span < 20:
        return last
    power = 10.0 ** math.floor(math.log10(span / 10))
    step = max(m * power for m in (1, 2, 5) if m * power <= span / 10)
    return math.ceil(last / step) * step


def ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of a round step between two values, about `most` of them, not more than `most` + 1."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float, step: float) -> str:
    """A number with the digits that tell it from its neighbour; in at most six characters if `step` is 0."""
    if value == 0 or (step and abs(value) < step / 1000):
        return "0"
    place = math.floor(math.log10(step) + 1e-9) if step else math.floor(math.log10(abs(value))) - 1
    text = f"{value:.{max(0, -place)}f}"
    if 1e-3 <= abs(value) < (1e9 if step else 1e5) and len(text) <= (DIGITS if step else 6):
        return text
    digits = max(0, math.floor(math.log10(abs(value))) - place) if step else 0
    return f"{value:.{min(digits, 5)}e}".replace("e-0", "e-").replace("e+0", "e")


def reading(value: float, span: float, *, percent: bool = False) -> str:
    """A value read off a curve: to a hundredth of what the scale spans, four digits or, in percent, a tenth."""
    place = math.floor(math.log10(span / 100)) if span > 0 else 0
    if percent:
        return f"{100 * value:.{min(max(1, -place - 2), 6)}f} %"
    digits = math.floor(math.log10(abs(value))) - place + 1 if value else 1
    return f"{value:.{min(max(4, digits), 10)}g}"


def _round_values(low: float, high: float, most: int, logarithmic: bool) -> Iterator[list[float]]:
    """Lists of round values, the best first."""
    if not logarithmic:
        yield ticks(low, high, most)
        return
    first, last = math.floor(low), math.ceil(high)
    every = max(1, math.ceil((high - low) / most))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        decades = range(first, last + 1, every if digits == (1,) else 1)
        values = [digit * 10.0**decade for decade in decades for digit in digits]
        values = [value for value in values if low <= math.log10(value) <= high]
        if 2 <= len(values) <= most:
            yield values
    if high - low < 2:  # within few decades
        yield [value for value in ticks(10**low, 10**high, most) if value > 0]


def _by_row(values: list[float], low: float, high: float, rows: int, logarithmic: bool) -> dict[int, float]:
    """Where they stand, top row first."""
    found: dict[int, float] = {}
    for value in reversed(values):
        at = math.log10(value) if logarithmic else value
        found.setdefault(round((high - at) / (high - low) * rows - 0.5), value)
    return {row: value for row, value in found.items() if 0 <= row < rows}


def _written(values: dict[int, float], factor: float, sign: str, logarithmic: bool) -> dict[int, str]:
    """The labels; where a label has no room for the digits that differ, differences to the lowest one."""
    ordered = [factor * value for value in values.values()]
    steps = [a - b for a, b in pairwise(ordered)]
    gaps = [min(steps[max(0, n - 1) : n + 1]) for n in range(len(ordered))]
    if logarithmic:
        gaps = [min(gap, value) for gap, value in zip(gaps, ordered, strict=True)]
    texts = [number(value, gap) for value, gap in zip(ordered, gaps, strict=True)]
    if len(set(texts)) < len(texts) or any(len(text + sign) > DIGITS for text in texts):
        lowest = ordered[-1]
        texts = [f"+{value - lowest:.2g}" for value in ordered[:-1]]
        texts.append(f"{lowest:.{DIGITS - 6 - len(sign)}g}")
    return {row: text + sign for row, text in zip(values, texts, strict=True)}
