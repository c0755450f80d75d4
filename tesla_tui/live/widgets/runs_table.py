"""The table of runs: as many columns as there is room for, and the settings that differ in full or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from tesla_tui.render.cells import cut

COLUMNS = ("colour", "run", "state", "iteration", "held out %", "test %", "random %", "time", "differs in")
"""In this order from the left."""
BY_NEED = ("state", "run", "differs in", "iteration", "time", "random %")
"""Who gets room first. The others are always there; a name that is cut gets more."""
NUMBERS = ("iteration", "held out %", "test %", "random %", "time")
GAP = 2
"""Columns around a cell."""
LONGEST = (18, 40)
"""Columns of a run's name: at least, at most."""
MOST_LINES = 2
"""Of a row."""


@dataclass(frozen=True)
class Row:
    """A run."""

    name: str
    cells: Mapping[str, Text]
    """By column; `differs in` is made of `differs`."""
    differs: Sequence[str]
    """Settings, each on one line."""


class RunsTable(DataTable[Text]):
    """A line for each run."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.widths: Mapping[str, int] = {}
        """Of the columns there are, in their order."""
        self._plan: tuple[object, ...] = ()
        self._names: list[str] = []
        self._cells: list[list[Text]] = []

    @property
    def tells_differences(self) -> bool:
        """Whether there is room for all settings that differ."""
        return "differs in" in self.widths

    @property
    def chosen(self) -> str | None:
        """The run under the cursor."""
        return self._names[self.cursor_row] if 0 <= self.cursor_row < len(self._names) else None

    def show(self, rows: Sequence[Row], sorted_by: str, *, descending: bool) -> None:
        """These runs, in this order. The cursor stays on its run."""
        headings = {name: "" if name == "colour" else name for name in COLUMNS}
        headings[sorted_by] += " ▼" if descending else " ▲"
        self.widths = widths = widths_for(rows, headings, self.container_size.width - GAP)
        lines = [wrapped(row.differs, widths.get("differs in", 0)) for row in rows]
        start = shared_start([row.name for row in rows])
        cells = [
            [_cell(row, name, width, part, start) for name, width in widths.items()]
            for row, part in zip(rows, lines, strict=True)
        ]
        plan = (
            tuple(widths.items()),
            tuple(headings.values()),
            tuple(row.name for row in rows),
            tuple(map(len, lines)),
        )
        if plan == self._plan:
            for number, (new, old) in enumerate(zip(cells, self._cells, strict=True)):
                for column, (cell, was) in enumerate(zip(new, old, strict=True)):
                    if (cell.plain, cell.style, cell.spans) != (was.plain, was.style, was.spans):
                        self.update_cell_at(Coordinate(number, column), cell)
        else:
            self._refill(rows, cells, [max(1, len(part)) for part in lines], headings)
        self._plan, self._cells = plan, cells

    def _refill(
        self, rows: Sequence[Row], cells: list[list[Text]], heights: list[int], headings: Mapping[str, str]
    ) -> None:
        chosen, top = self.chosen, self.scroll_y
        self._names = [row.name for row in rows]
        with self.prevent(DataTable.RowHighlighted):
            self.clear(columns=True)
            for name, width in self.widths.items():
                heading = Text(headings[name], justify="right" if name in NUMBERS else "left")
                self.add_column(heading, width=width, key=name)
            for line, height in zip(cells, heights, strict=True):
                self.add_row(*line, height=height)
            if chosen in self._names:
                self.move_cursor(row=self._names.index(chosen), animate=False, scroll=False)
        self.scroll_to(y=top, animate=False)


def widths_for(rows: Sequence[Row], headings: Mapping[str, str], room: int) -> dict[str, int]:
    """The width of every column there is room for, by name."""
    natural = {
        name: max([len(headings[name]), *(row.cells[name].cell_len for row in rows if name in row.cells)])
        for name in COLUMNS
    }
    found = {name: natural[name] for name in COLUMNS if name not in BY_NEED}
    found["run"] = max(min(natural["run"], LONGEST[0]), len(headings["run"]))
    free = room - sum(width + GAP for width in found.values())
    for name in BY_NEED:
        if name == "run":
            more = max(0, min(free, min(natural["run"], LONGEST[1]) - found["run"]))
            found["run"], free = found["run"] + more, free - more
            continue
        width = _differs_width(rows, headings[name], free) if name == "differs in" else natural[name]
        if name == "state" and width + GAP > free:
            width = 1  # its sign
        if width and width + GAP <= free:
            found[name] = width
            free -= width + GAP
    if "differs in" in found:
        found["differs in"] += max(0, min(free, _longest(rows) - found["differs in"]))
    return {name: found[name] for name in COLUMNS if name in found}


def _longest(rows: Sequence[Row]) -> int:
    return max((len("  ".join(row.differs)) for row in rows), default=0)


def _differs_width(rows: Sequence[Row], heading: str, room: int) -> int:
    """The least with which all differences take few lines; 0 if that is more than there is, or there are none."""
    least = max([len(heading), *(len(part) for row in rows for part in row.differs)])
    fits = (
        width
        for width in range(least, room - GAP + 1)
        if all(len(wrapped(row.differs, width)) <= MOST_LINES for row in rows)
    )
    return next(fits, 0) if _longest(rows) else 0


def wrapped(parts: Sequence[str], width: int) -> list[str]:
    """Parts in lines of at most `width` characters; none if there is no room."""
    lines: list[str] = []
    for part in parts if width else ():
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def shared_start(names: Sequence[str]) -> int:
    """Characters that all names begin with, up to a separator."""
    if len(names) < 2:
        return 0
    letters = takewhile(lambda same: len(set(same)) == 1, zip(*names, strict=False))
    shared = "".join(same[0] for same in letters)
    return max(map(shared.rfind, "-_.")) + 1


def _cell(row: Row, name: str, width: int, lines: Sequence[str], start: int) -> Text:
    """A cell; of names that are too long, what they share at the start goes first."""
    if name == "differs in":
        return Text("\n".join(lines), style=row.cells[name].style)
    cell = row.cells[name].copy()
    if name == "run":
        words = cell.plain if cell.cell_len <= width else "…" * (start > 0) + cell.plain[start:]
        cell = Text(cut(words, width), style=cell.style)
    cell.truncate(width)
    return cell
