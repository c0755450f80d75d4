"""Colours: four built-in themes, and the variables the charts use in any theme."""

from textual.theme import Theme

DARK = Theme(
    name="tesla-dark",
    primary="#5fb3f9",
    secondary="#c792ea",
    accent="#ffcb6b",
    warning="#ffb454",
    error="#ff6b6b",
    success="#7fd962",
    foreground="#d6dbe5",
    background="#0e1116",
    surface="#141922",
    panel="#1d2430",
    dark=True,
    variables={"chart-raw": "#3a536e", "chart-axis": "#4b566b", "chart-second": "#ffcb6b", "quiet": "#7d889c"},
)
LIGHT = Theme(
    name="tesla-light",
    primary="#1668b8",
    secondary="#7a3fb0",
    accent="#9a5b00",
    warning="#a65f00",
    error="#c01f2f",
    success="#2c7a1f",
    foreground="#1b222d",
    background="#fbfbf9",
    surface="#f1f2f0",
    panel="#e3e6e8",
    dark=False,
    variables={"chart-raw": "#a9c6e3", "chart-axis": "#9aa3ad", "chart-second": "#9a5b00", "quiet": "#5d6773"},
)
CONTRAST = Theme(
    name="high-contrast",
    primary="#00e5ff",
    secondary="#ff9cff",
    accent="#ffff00",
    warning="#ffd000",
    error="#ff5c5c",
    success="#00ff5f",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#262626",
    dark=True,
    variables={"chart-raw": "#8a8a8a", "chart-axis": "#b0b0b0", "chart-second": "#ffff00", "quiet": "#d0d0d0"},
)
# Okabe and Ito's palette, whose colours are told apart with any common colour blindness.
BLIND = Theme(
    name="colour-blind",
    primary="#56b4e9",
    secondary="#cc79a7",
    accent="#f0e442",
    warning="#e69f00",
    error="#d55e00",
    success="#009e73",
    foreground="#e6e6e6",
    background="#101214",
    surface="#16191c",
    panel="#22272c",
    dark=True,
    variables={"chart-raw": "#3d5a6c", "chart-axis": "#56606a", "chart-second": "#e69f00", "quiet": "#8f9aa5"},
)
THEMES = (DARK, LIGHT, CONTRAST, BLIND)

DEFAULTS = {"chart-raw": "#55687c", "chart-axis": "#66707c", "chart-second": "#e0a030", "quiet": "#8a94a2"}
"""For Textual's own themes, which do not name these."""

LINES = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999")
"""Colours of overlaid runs, in order: Okabe and Ito's, safe for colour-blind readers."""
