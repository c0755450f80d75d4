"""Captions in columns of a terminal: a CJK character and most emoji take two, a combining mark takes none."""

import re

from rich.cells import cell_len

from tesla_tui.render.words import one_line

UNSURE = re.compile("[\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")
"""Joiners, variation selectors and skin tones: terminals do not agree how wide the character before them then is."""
SHORTEST = 5
"""Columns from which on both ends of a name are shown."""


def caption(text: str) -> str:
    """Untrusted text, such as the name of a class, as one line whose width every terminal agrees on."""
    return one_line(UNSURE.sub("", text))


def cut(text: str, columns: int) -> str:
    """The text in at most so many columns. A long one loses its middle: names often differ only at the end."""
    if cell_len(text) <= columns:
        return text
    if columns < SHORTEST:
        return _head(text, columns - 1) + "…" if columns > 0 else ""
    end = _tail(text, (columns - 1) // 2)
    return f"{_head(text, columns - 1 - cell_len(end))}…{end}"


def centred(text: str, columns: int) -> str:
    """The text in the middle of exactly so many columns, cut where it is too long."""
    text = cut(text, columns)
    free = columns - cell_len(text)
    return " " * (free // 2) + text + " " * (free - free // 2)


def padded(text: str, columns: int) -> str:
    """The text at the left of exactly so many columns, cut where it is too long."""
    text = cut(text, columns)
    return text + " " * (columns - cell_len(text))


def _head(text: str, columns: int) -> str:
    taken = 0
    for at, char in enumerate(text):
        taken += cell_len(char)
        if taken > columns:
            return text[:at]
    return text


def _tail(text: str, columns: int) -> str:
    taken, start = 0, len(text)
    for at in range(len(text) - 1, -1, -1):
        width = cell_len(text[at])
        taken += width
        if taken > columns:
            break
        if width:  # never start with a mark that belongs to the character before it
            start = at
    return text[start:]
