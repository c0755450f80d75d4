"""Where a view stands in a run's film."""

from engine.runs.preview_frames import Frame
from tesla_tui.live.context import Context
from tesla_tui.watch.selected import selected_of


class TimeLine:
    """The iteration that is shown.

    Until one is chosen it follows the run: the newest while it is driven, the selected checkpoint once it is finished.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.chosen: int | None = None
        """By the user; None follows the run."""

    @property
    def iterations(self) -> list[int]:
        """Those with a frame, ascending."""
        return self._context.film.iterations if self._context.film is not None else []

    @property
    def live(self) -> bool:
        """Whether the run is driven, so that there will be newer frames."""
        return self._context.feed is not None and self._context.feed.live

    @property
    def shown(self) -> int | None:
        """The iteration that is due; None if there is no frame yet."""
        there, feed = self.iterations, self._context.feed
        if not there:
            return None
        if self.chosen is not None:
            return self.chosen if self.chosen in there else there[-1]
        if feed is not None and feed.state in ("finished", "imported"):
            selected = selected_of(feed)
            if selected is not None and selected.iteration in there:
                return selected.iteration
        return there[-1]

    @property
    def position(self) -> int:
        """Index of what is shown."""
        shown = self.shown
        return self.iterations.index(shown) if shown is not None else 0

    def frame(self) -> Frame | None:
        """What is due; the newest that can be read if that is damaged."""
        film, shown = self._context.film, self.shown
        if film is None or shown is None:
            return None
        found = film.frame(shown)
        return found if found is not None else film.latest()

    def go(self, position: int) -> None:
        """To a frame by its index; the newest of a run that is driven means to follow it."""
        there = self.iterations
        if there:
            index = min(max(position, 0), len(there) - 1)
            self.chosen = None if self.live and index == len(there) - 1 else there[index]

    def choose(self, iteration: int | None) -> None:
        """An iteration that has a frame; None for the newest."""
        there = self.iterations
        self.go(there.index(iteration) if iteration in there else len(there) - 1)
