"""Which part of a chart is seen and which point is read off, and what keys change about it."""

from dataclasses import dataclass, replace

import numpy as np

from tesla_tui.watch.series import Array

FEWEST = 3
"""Points that are left when one has zoomed in all the way."""


@dataclass(frozen=True)
class View:
    """Immutable, so that the charts of a tab can share it. `xs`: the places of all points, ascending, at least one."""

    cursor: float | None = None
    """The place that is read off."""
    window: tuple[float, float] | None = None
    """What is seen; None: everything."""
    anchor: float | None = None
    """Where the range begins that is being selected; it ends at the cursor."""

    @property
    def selected(self) -> tuple[float, float] | None:
        """The range that is being selected; None if there is none or it is empty."""
        if self.anchor is None or self.cursor is None or self.anchor == self.cursor:
            return None
        return min(self.anchor, self.cursor), max(self.anchor, self.cursor)

    def ends(self, xs: Array) -> tuple[float, float]:
        """The first and the last place that is seen."""
        return self.window or (float(xs[0]), float(xs[-1]))

    def moved(self, xs: Array, by: int, columns: int, *, select: bool = False) -> "View":
        """The cursor `by` points on, or as many columns where those hold several; what is seen moves with it.

        Without a cursor it appears at the last point. `select`: the range from where it was is selected.
        """
        first, last = self.ends(xs)
        if self.cursor is None:
            place = int(np.searchsorted(xs, last, "right")) - 1
        else:
            step = max(1, round(_between(xs, first, last) / max(1, columns)))
            place = int(np.abs(xs - self.cursor).argmin()) + by * step
        cursor = float(xs[min(max(place, 0), len(xs) - 1)])
        anchor = (cursor if self.cursor is None else self.cursor) if self.anchor is None else self.anchor
        window = self.window
        if window is not None:
            shift = min(0.0, cursor - window[0]) + max(0.0, cursor - window[1])
            window = (window[0] + shift, window[1] + shift)
        return View(cursor, window, anchor if select else None)

    def at(self, xs: Array, x: float) -> "View":
        """The cursor at the point next to a place."""
        return replace(self, cursor=float(xs[np.abs(xs - x).argmin()]))

    def zoomed(self, xs: Array, factor: float) -> "View":
        """A part (`factor` below 1) around the cursor, else up to the last point seen; or more."""
        first, last = self.ends(xs)
        centre = last if self.cursor is None else min(max(self.cursor, first), last)
        begin, end = centre - (centre - first) * factor, centre + (last - centre) * factor
        width = end - begin
        begin = max(float(xs[0]), min(begin, float(xs[-1]) - width))
        return self.within(xs, begin, begin + width)

    def within(self, xs: Array, first: float, last: float) -> "View":
        """That range; everything if it is as wide, no change if too few points are in it."""
        if first <= xs[0] and last >= xs[-1]:
            return replace(self, window=None, anchor=None)
        if _between(xs, first, last) < min(FEWEST, len(xs)):
            return self
        return replace(self, window=(first, last), anchor=None)

    def back(self) -> "View | None":
        """Without the selection, else seeing everything, else without the cursor; None if there is none of them."""
        if self.anchor is not None:
            return replace(self, anchor=None)
        if self.window is not None:
            return replace(self, window=None)
        return None if self.cursor is None else View()


def _between(xs: Array, first: float, last: float) -> int:
    """Points there."""
    return int(np.searchsorted(xs, last, "right") - np.searchsorted(xs, first, "left"))
