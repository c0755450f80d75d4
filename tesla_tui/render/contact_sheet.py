"""Contact sheets: synthetic images with the names of their classes, a hundred classes a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len

from engine.runs.preview_writer import save_picture
from tesla_tui.render.cells import cut
from tesla_tui.render.grid import Pixels
from tesla_tui.render.words import clean, one_line

CLASSES = 100
"""Classes a page."""
IN_ROWS = 10
"""Up to so many classes get a row each, with several images; more classes get a tile each."""
TILE = 96
"""Side of an image on the page, about: whole multiples of its own pixels."""
GAP, CAPTION, MARGIN = 8, 18, 24
LABEL = 240
"""Pixels of a name beside its row, at most."""
PAPER, INK, FAINT = (255, 255, 255), (34, 34, 34), (119, 119, 119)


def contact_sheets(pixels: Pixels, classes: Sequence[str], ipc: int, title: str, folder: Path) -> list[Path]:
    """Write the pages of a set; their paths.

    Args:
        pixels: `(K * ipc, H, W, C)`, uint8, ordered by class.
        classes: K names.
        ipc: images per class.
        title: stands on every page.
        folder: where `page-001.png` and the next go.
    """
    first = range(0, len(classes), CLASSES)
    paths = []
    for number, begin in enumerate(first, 1):
        chosen = range(begin, min(begin + CLASSES, len(classes)))
        page = _rows(pixels, classes, ipc, chosen) if len(classes) <= IN_ROWS else _tiles(pixels, classes, ipc, chosen)
        words = f"{clean(title)}, page {number} of {len(first)}" if len(first) > 1 else clean(title)
        path = folder / f"page-{number:03d}.png"
        save_picture(path, _titled(page, words))
        paths.append(path)
    return paths


def _rows(pixels: Pixels, classes: Sequence[str], ipc: int, chosen: range) -> Image.Image:
    """A row for every class: its name, and as many of its images as fit."""
    most = min(ipc, IN_ROWS)
    tile = _side(pixels)
    names = [_fitted(one_line(classes[k]), LABEL) for k in chosen]
    label = 8 + max(round(_font().getlength(name)) for name in names)
    page = Image.new("RGB", (label + most * (tile + GAP), len(chosen) * (tile + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    for row, k in enumerate(chosen):
        top = row * (tile + GAP)
        draw.text((0, top + tile // 2), names[row], INK, _font(), anchor="lm")
        for i in range(most):
            page.paste(_tile(pixels[k * ipc + i], tile), (label + i * (tile + GAP), top))
    return page


def _tiles(pixels: Pixels, classes: Sequence[str], ipc: int, chosen: range) -> Image.Image:
    """A tile for every class: its first image above its name, ten a row."""
    tile = _side(pixels)
    wide, high = tile + GAP, tile + GAP + CAPTION
    page = Image.new("RGB", (IN_ROWS * wide, -(-len(chosen) // IN_ROWS) * high), PAPER)
    draw = ImageDraw.Draw(page)
    for place, k in enumerate(chosen):
        left, top = place % IN_ROWS * wide, place // IN_ROWS * high
        page.paste(_tile(pixels[k * ipc], tile), (left, top))
        draw.text((left, top + tile + 3), _fitted(one_line(classes[k]), tile + GAP - 4), INK, _font(), anchor="la")
    return page


def _titled(page: Image.Image, title: str) -> Image.Image:
    head = 34
    sheet = Image.new("RGB", (page.width + 2 * MARGIN, page.height + 2 * MARGIN + head), PAPER)
    ImageDraw.Draw(sheet).text((MARGIN, MARGIN - 4), title, INK, _font(18), anchor="la")
    sheet.paste(page, (MARGIN, MARGIN + head))
    return sheet


def _side(pixels: Pixels) -> int:
    native = int(pixels.shape[1])
    return native * max(1, round(TILE / native))


def _tile(image: Pixels, side: int) -> Image.Image:
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    return Image.fromarray(rgb).resize((side, side), Image.Resampling.NEAREST)


def _font(size: int = 12) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(text: str, width: int) -> str:
    """The text, cut in the middle where it is too long."""
    if _font().getlength(text) <= width:
        return text
    columns = min(cell_len(text), width)
    while columns and _font().getlength(cut(text, columns)) > width:
        columns -= 1
    return cut(text, columns)
