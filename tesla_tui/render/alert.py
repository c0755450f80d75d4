"""Telling a user who looks elsewhere that a run has ended: the terminal's bell, or a notification of the desktop."""

import os
from typing import Literal, get_args

from tesla_tui.render.words import one_line

Alert = Literal["bell", "osc9", "off"]
ALERTS: tuple[str, ...] = get_args(Alert)
WORTH = 60.0
"""Seconds of work from which on the end is told: no user looks elsewhere for less."""


def alert_sequence(alert: Alert, words: str) -> str:
    """What to write to the terminal; it draws nothing and moves nothing.

    Args:
        alert: `bell` works in every terminal; `osc9` shows `words` as a notification in iTerm2, WezTerm, Ghostty,
            kitty, Windows Terminal and others, through tmux too where its `allow-passthrough` is on.
        words: what has ended, and how.
    """
    if alert == "off":
        return ""
    if alert == "bell":
        return "\a"
    sequence = f"\x1b]9;{one_line(words)}\a"
    if "TMUX" in os.environ:
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    return sequence
