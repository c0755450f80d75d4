"""A noisy curve and its trend, drawn the same way on every tab."""

from engine.runs.series import Points
from tesla_tui.live.widgets.braille import Line
from tesla_tui.watch.series import Array, smoothed


def with_trend(points: Points, width: int, *, raw: bool = True) -> list[Line]:
    """The values, faint, under their mean over `width` neighbours; only the values where nothing is smoothed.

    Args:
        points: of the curve.
        width: of the smoothing, `Context.trend`.
        raw: show the values behind the trend.
    """
    trend = smoothed(points.mean, width)
    values = Line(points.x, points.low, points.high, "chart-raw")
    if trend is points.mean:
        several = bool((points.low != points.high).any())  # in a point of the curve
        return [*([values] if several and raw else []), Line.through(points.x, trend, "primary")]
    return [*([values] if raw else []), Line.through(points.x, trend, "primary", name="avg")]


def points_of(x: Array, y: Array) -> Points:
    """A curve of single values."""
    return Points(x, y, y, y)
