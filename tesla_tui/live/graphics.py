"""How this terminal draws pictures: half blocks anywhere, real pixels where the terminal reports support."""

import os
import sys
from typing import Any

from textual.widget import Widget

from engine.errors import UsageError

MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
"""Set by terminal multiplexers, which do not pass images through."""

_protocol = "blocks"


def protocol() -> str:
    """`blocks`, `kitty` or `sixel`."""
    return _protocol


def choose_protocol(wanted: str) -> str:
    """Decide, once, before the app starts: detection writes to the terminal and reads its answer.

    Args:
        wanted: `auto`, `blocks`, `kitty` or `sixel`. iTerm2 understands `sixel`.

    Raises:
        UsageError: `textual-image`, which draws real pixels, is not installed.
    """
    global _protocol
    if wanted == "auto":
        wanted = _detected()
    if wanted == "kitty":
        # The colour of a character says which picture it belongs to. Over SSH a terminal does not say that it has all
        # colours, and Textual would send the nearest of 256; without colours there is no way to say it.
        os.environ["COLORTERM"] = "truecolor"
        wanted = "blocks" if os.environ.get("NO_COLOR") else wanted
    if wanted != "blocks":
        try:
            import textual_image.widget  # noqa: F401
        except ImportError as error:
            raise UsageError(
                "Real pixels need the package textual-image.", "Run pip install textual-image, or use --images blocks."
            ) from error
    _protocol = wanted
    return wanted


def _detected() -> str:
    between = any(os.environ.get(name) for name in MULTIPLEXERS) or os.environ.get("TERM", "").startswith(
        ("screen", "tmux")
    )
    served = "TEXTUAL_DRIVER" in os.environ
    if between or served or not (sys.__stdout__ and sys.__stdout__.isatty() and sys.stdin and sys.stdin.isatty()):
        return "blocks"
    if os.environ.get("TERM", "") in ("", "dumb", "linux"):
        return "blocks"
    try:
        from textual_image import renderable
    except Exception:  # a terminal that answers strangely must not keep a user out
        return "blocks"
    return {renderable.SixelImage: "sixel", renderable.TGPImage: "kitty"}.get(renderable.Image, "blocks")


def image_widget() -> Widget:
    """A widget with a settable `image` for the protocol that was chosen."""
    from textual_image import widget

    made: Any = widget.TGPImage() if _protocol == "kitty" else widget.SixelImage()
    assert isinstance(made, Widget)
    return made


def cell_size() -> tuple[int, int]:
    """Pixels of a character, (width, height)."""
    from textual_image._terminal import get_cell_size

    size = get_cell_size()
    return size.width, size.height
