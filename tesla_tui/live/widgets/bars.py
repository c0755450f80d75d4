"""Small drawings in text: progress bars and strips of history."""

from collections.abc import Sequence

from rich.text import Text

LEVELS = "▁▂▃▄▅▆▇█"


def bar(share: float, width: int, colour: str, rest: str) -> Text:
    """A progress bar: thick for what is done, thin for what is left."""
    share = min(max(share, 0.0), 1.0)
    full = int(share * width)
    text = Text("━" * full, style=colour)
    if full < width:
        text.append("╸" if share * width - full >= 0.5 else "─", style=colour if share * width - full >= 0.5 else rest)
        text.append("─" * (width - full - 1), style=rest)
    return text


def strip(values: Sequence[float], width: int, top: float | None = None) -> str:
    """The last `width` values as a row of columns, scaled to `top` (their maximum if None)."""
    shown = list(values)[-width:] if width > 0 else []
    if not shown:
        return ""
    highest = top if top is not None else max(shown)
    if highest <= 0:
        return LEVELS[0] * len(shown)
    return "".join(LEVELS[min(7, max(0, int(value / highest * 7.999)))] for value in shown)
