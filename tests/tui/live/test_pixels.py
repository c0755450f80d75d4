"""Real pixels: what a terminal was sent, decoded and compared with the pictures of the run."""

from pathlib import Path

import numpy as np
import pytest

from tests.terminal import Terminal
from tests.terminal_images import Pixels, Shown, kitty, placed, sixels
from tests.tui.live.many import class_names, many_classes, pictures

pytestmark = pytest.mark.slow

CELL = (10, 20)
CLASSES, NATIVE = 6, 16
BACKGROUND = (13, 18, 23)
"""Of the theme, in the hundredths that Sixel has."""
QUANTISED = 12
"""Levels by which a colour may be off: a Sixel picture has 256 of them."""


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    workspace = many_classes(tmp_path / "many", class_names(CLASSES), NATIVE)
    return ["tui", workspace.folder, "--run", "learned", "--watch"]


def drawn(terminal: Terminal, words: str, sign: bytes, count: int, since: int = 0) -> None:
    """Until words are drawn and so many pictures were sent, and no more of them come."""
    terminal.wait_for(words)
    terminal.wait_until(lambda: terminal.received.count(sign, since) >= count, "the pictures")
    seen = -1
    while seen != terminal.received.count(sign):
        seen = terminal.received.count(sign)
        terminal.rest(1.0)


def cut_out(row: Pixels, per_row: int, number: int) -> Pixels:
    """One picture of a row of them, without what surrounds it: its side is a whole multiple of its own pixels."""
    side = (row.shape[1] // CELL[0] + 1) // per_row - 1
    room = min(side * CELL[0], row.shape[0])
    shown = room - room % NATIVE
    left = number * (side + 1) * CELL[0] + (side * CELL[0] - shown) // 2
    top = (row.shape[0] - shown) // 2
    return row[top : top + shown, left : left + shown]


def check(rows: list[Pixels], off: int) -> None:
    """All pictures of a grid of two in a row or more, each with its own colours, every pixel equally large."""
    expected = pictures(CLASSES, NATIVE)
    per_row = CLASSES // len(rows)
    for number in range(CLASSES):
        found = cut_out(rows[number // per_row], per_row, number % per_row)
        scale = len(found) // NATIVE
        assert scale > 1
        blocks = found.reshape(NATIVE, scale, NATIVE, scale, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert np.abs(blocks[:, 0, :, 0].astype(int) - expected[number]).max() <= off


def in_columns(shown: list[Shown], first: int, last: int) -> list[Shown]:
    """The newest pictures that start in these columns, from top to bottom."""
    newest = {picture.row: picture for picture in shown if first <= picture.column <= last}
    return [newest[row] for row in sorted(newest)]


def test_sixel(words: list[object], tmp_path: Path) -> None:
    with Terminal(*words, size=(120, 40), config=tmp_path / "none.toml", images="sixel", cell=CELL) as terminal:
        drawn(terminal, "oe 3", b"\x1bP", 2)
        overview = in_columns(sixels(terminal.received), 60, 120)
        check([picture.pixels for picture in overview], QUANTISED)
        before = len(terminal.received)
        terminal.type(b"2")
        drawn(terminal, "n02085625 ox 5", b"\x1bP", 2, before)
        rows = in_columns(sixels(terminal.received[before:]), 0, 3)
        check([picture.pixels for picture in rows], QUANTISED)
        assert np.abs(rows[0].pixels[0, 0].astype(int) - BACKGROUND).max() <= 2  # not black: a theme may be light
        line = terminal.lines[rows[0].row + rows[0].pixels.shape[0] // CELL[1]]
        assert "Chihuahua 0" in line and "花火 1" in line  # captions stand right under their pictures


def test_kitty(words: list[object], tmp_path: Path) -> None:
    with Terminal(*words, size=(120, 40), config=tmp_path / "none.toml", images="kitty", cell=CELL) as terminal:
        drawn(terminal, "oe 3", b"a=p", 2)
        before = len(terminal.received)
        terminal.type(b"2")
        drawn(terminal, "n02085625 ox 5", b"a=p", 2, before)
        sent = {number & 0xFFFFFF: picture for number, picture in kitty(terminal.received[before:]).items()}
        shown = [sent[number] for number in placed(terminal.received[before:])[-2:]]
        assert all(picture.pixels.shape == (picture.rows * 20, picture.columns * 10, 3) for picture in shown)
        check([picture.pixels for picture in shown], 0)
