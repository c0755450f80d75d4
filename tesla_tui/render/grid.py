"""Images in the terminal: two pixels a character in colour, or shades of grey signs where there is no colour."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from tesla_tui.render.cells import caption, centred

RAMP = " .:-=+*#%@"
SMALLEST, LARGEST = 12, 32
"""Sides of a picture in characters; larger images are reduced."""

Pixels = npt.NDArray[np.uint8]


class ImageGrid:
    """Rows of captioned pictures that fit the console's width.

    Args:
        pixels: `(N, H, W, C)`, uint8.
        captions: N short texts, printed under the pictures (an empty one leaves the line out if all are empty).
        per_row: pictures a row if the width allows; None for as many as fit.
    """

    def __init__(self, pixels: Pixels, captions: list[str], per_row: int | None = None) -> None:
        self._pixels = pixels
        self._captions = [caption(text) for text in captions]
        self._per_row = per_row

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        native = self._pixels.shape[1]
        wanted = self._per_row or max(1, min(len(self._pixels), 10))
        side = max(min(native, SMALLEST), min(native, LARGEST, (width + 1) // wanted - 1))
        side = max(2, min(side, width))
        per_row = max(1, min(wanted, (width + 1) // (side + 1)))
        if len(self._pixels) <= 3 * per_row:  # ten pictures where nine fit: five and five
            per_row = math.ceil(len(self._pixels) / math.ceil(len(self._pixels) / per_row))
        colour = console.color_system is not None
        for start in range(0, len(self._pixels), per_row):
            row = [np.asarray(resized(image, side, side)) for image in self._pixels[start : start + per_row]]
            yield from _row(row, side, colour)
            names = self._captions[start : start + per_row]
            if any(names):
                text = " ".join(centred(name, side) for name in names)
                yield Segment(text.rstrip(), Style(dim=True) if colour else None)
                yield Segment.line()


def resized(image: Pixels, width: int, height: int) -> Image.Image:
    """A picture `(H, W, C)` in colour, of another size: means where it shrinks, whole pixels where it grows evenly."""
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    return Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX)


def _row(images: list[Pixels], side: int, colour: bool) -> RenderResult:
    for top in range(0, side, 2):
        for number, image in enumerate(images):
            if number:
                yield Segment(" ")
            upper = image[top]
            lower = image[min(top + 1, side - 1)] if top + 1 < side else np.zeros_like(upper)
            for a, b in zip(upper, lower, strict=True):
                if colour:
                    style = Style(color=Color.from_rgb(*map(int, a)), bgcolor=Color.from_rgb(*map(int, b)))
                    yield Segment("▀", style)
                else:
                    shade = (int(a.mean()) + int(b.mean())) / 2 / 255
                    yield Segment(RAMP[min(len(RAMP) - 1, int(shade * len(RAMP)))])
        yield Segment.line()
