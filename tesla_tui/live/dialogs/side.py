"""One of two runs that are compared: its images at an iteration, and what is said above and below them."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.text import Text

from engine.runs.preview_frames import Frame
from tesla_tui.render.cells import caption, cut
from tesla_tui.render.words import percent
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.previews import Film, decoded_frame, formation_of
from tesla_tui.watch.selected import SIGN, selected_of

NARROW = 48
"""Columns of a side up to which words are left out."""


@dataclass
class Side:
    """One of the two runs."""

    feed: RunFeed
    film: Film

    @classmethod
    def of(cls, feed: RunFeed) -> "Side":
        """A run from its beginning."""
        film = Film(feed.run)
        film.look()
        return cls(feed, film)

    def frame(self, at: int | None) -> Frame | None:
        """Its images at an iteration, as networks see them: the last ones recorded by then, else the first.

        None: the newest.
        """
        there = [iteration for iteration in self.film.iterations if at is None or iteration <= at]
        there = there or self.film.iterations[:1]
        frame = self.film.frame(there[-1]) if there else None
        factor = formation_of(self.feed.view.settings)
        return frame if frame is None or factor == 1 else decoded_frame(frame, factor)

    def title(self, frame: Frame | None, per_class: int, width: int, colours: Mapping[str, str]) -> Text:
        """Which run, which images and how good, the best; three lines in `width` columns."""
        name = Text(cut(self.feed.run.name, width), style=f"bold {colours['primary']}")
        if frame is None:
            return name.append("\nno images yet\n", style=f"not bold {colours['quiet']}")
        now = f"iteration {frame.iteration}"
        measured = [result for result in self.feed.view.held_out() if result.iteration <= frame.iteration]
        if measured:
            last = measured[-1]
            at = "" if last.iteration == frame.iteration else f" at {last.iteration}"
            now += f"   {'held out ' * (width > NARROW)}{percent(last.mean)} %{at}"
        if frame.shown > per_class and width > NARROW:
            now += f"   first {per_class} of {frame.shown} per class"
        name.append(f"\n{cut(now, width)}", style=f"not bold {colours['foreground']}")
        words = ""
        if (best := selected_of(self.feed)) is not None:
            held_out = "" if best.held_out is None else f"{percent(best.held_out)} % "
            words = f"{SIGN} " + ("selected" if best.iteration == frame.iteration else f"{held_out}at {best.iteration}")
        return name.append(f"\n{words}", style=f"not bold {colours['accent']}")

    def caption_of(self, number: int, shown: int, per_class: int) -> str:
        """Of a picture: its class, and which of its pictures."""
        names, k = self.feed.view.names, number // shown
        name = caption(names[k]) if k < len(names) else f"class {k}"
        return f"{name} {number % shown + 1}" if per_class > 1 else name
