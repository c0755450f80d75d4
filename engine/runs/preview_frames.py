"""The film of a run: one PNG per remembered iteration, which people look at and readers cut into single images.

A frame is a grid, one row a class, and carries its own layout and the images' leading soft labels in a text chunk, so
that it can be read without the dataset and without PyTorch. The film is bounded: when it grows past `MOST_FRAMES` or
`MOST_BYTES`, every second frame is removed.
"""

import io
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from engine.errors import CorruptFileError, UnreadableFileError
from engine.storage.atomic import disk, replace_bytes, write_bytes
from engine.storage.reading import paths_in
from engine.storage.untrusted import iteration_of, number, open_regular, parse_json, typed, whole_number

Pixels = npt.NDArray[np.uint8]
TopLabels = list[list[tuple[int, float]]]
"""For every image its leading classes with their probabilities, best first."""

GAP = 2
"""Pixels between images."""
SMALLEST = 32
"""Images are enlarged by a whole factor to at least this side when people are to look at the file."""
MOST_PIXELS = 2**21
"""Pixels of a frame, before enlarging; of larger sets it shows the first images of every class."""
READABLE_PIXELS = 2**26
"""A file that claims more is not read: a quarter of a gigabyte in colour."""
MOST_CLASSES = 2**20
"""A label beyond it is invalid."""
MOST_FRAMES = 200
MOST_BYTES = 64 * 10**6
CHUNK = "tesla"
FORMAT = 1
"""Version of that chunk."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The images of one iteration."""

    iteration: int
    pixels: Pixels
    """`(K * shown, H, W, C)`, ordered by class."""
    shown: int
    """Images of every class that the frame has: the first ones, IPC if all."""
    top: TopLabels | None
    """Leading labels of every image; None where labels are hard."""


@dataclass(frozen=True)
class _Layout:
    """How to cut a frame."""

    iteration: int
    count: int
    shown: int
    side: int
    factor: int
    top: list[Any] | None = None
    format: int = 1


def images_shown(classes: int, ipc: int, side: int) -> int:
    """How many images of every class fit in a frame."""
    return max(1, min(ipc, MOST_PIXELS // (classes * side * side)))


def image_grid(pixels: Pixels, ipc: int) -> Pixels:
    """A grid `(H, W, C)` of images `(N, H, W, C)` ordered by class.

    With one image per class the classes fill the rows; else every class has its own row.
    """
    count, side, _, channels = pixels.shape
    width = grid_width(count, ipc)
    rows = math.ceil(count / width)
    grid = np.zeros((rows * (side + GAP) - GAP, width * (side + GAP) - GAP, channels), dtype=np.uint8)
    for n in range(count):
        top, left = n // width * (side + GAP), n % width * (side + GAP)
        grid[top : top + side, left : left + side] = pixels[n]
    return grid


def grid_width(count: int, ipc: int) -> int:
    """Images in a row of the grid."""
    return min(count, max(10, math.ceil(math.sqrt(count)))) if ipc == 1 else ipc


def enlarged(grid: Pixels, side: int) -> Image.Image:
    """A grid as a picture, small images enlarged by a whole factor."""
    picture = Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    factor = _factor(side)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def write_frame(path: Path, frame: Frame, *, lasting: bool) -> None:
    """Publish a frame. `lasting`: enlarged for people, well compressed and synced; else small and quick."""
    side = frame.pixels.shape[1]
    grid = image_grid(frame.pixels, frame.shown)
    picture = enlarged(grid, side) if lasting else Image.fromarray(grid[:, :, 0] if grid.shape[2] == 1 else grid)
    layout = {
        "format": FORMAT, "iteration": frame.iteration, "count": len(frame.pixels), "shown": frame.shown, "side": side,
        "factor": _factor(side) if lasting else 1,
        "top": None if frame.top is None else [[[k, round(p, 4)] for k, p in labels] for labels in frame.top],
    }  # fmt: skip
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(CHUNK, json.dumps(layout), zip=True)
    file = io.BytesIO()
    picture.save(file, format="PNG", pnginfo=chunk, compress_level=6 if lasting else 3)
    disk.make_folder(path.parent)
    if lasting:
        write_bytes(path, file.getvalue())
    else:
        replace_bytes(path, file.getvalue())


def read_frame(path: Path) -> Frame:
    """Cut a frame into its images.

    Raises:
        CorruptFileError: absent, not a PNG from `write_frame`, or its layout does not fit its picture.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as picture:
            # Text after the pixels is read with them; this program writes it before.
            layout = typed(_Layout, parse_json(picture.info[CHUNK]))
            if layout.format > FORMAT:
                raise ValueError(f"it has format {layout.format}; update tesla-tui")
            count, shown, side, factor = layout.count, layout.shown, layout.side, layout.factor
            if min(count, shown, side, factor) < 1 or layout.iteration < 0 or count * side * side > READABLE_PIXELS:
                raise ValueError("its layout is impossible")
            if picture.mode not in ("L", "RGB"):
                raise ValueError(f"it is of mode {picture.mode}")
            if shown > count or factor > SMALLEST:
                raise ValueError("its layout is impossible")
            width = grid_width(count, shown)
            rows = math.ceil(count / width)
            size = tuple(factor * (n * (side + GAP) - GAP) for n in (width, rows))
            if picture.size != size:
                raise ValueError("its layout does not fit its picture")
            grid = np.asarray(picture)[::factor, ::factor]
        grid = grid[:, :, None] if grid.ndim == 2 else grid
        # At once, without a Python object for every image: a file may claim millions of tiny ones.
        padded = np.pad(grid, ((0, GAP), (0, GAP), (0, 0)))
        cells = padded.reshape(rows, side + GAP, width, side + GAP, -1).swapaxes(1, 2)
        pixels = cells[:, :, :side, :side].reshape(rows * width, side, side, -1)[:count]
        labels = None if layout.top is None else _top_labels(layout.top, count)
        return Frame(layout.iteration, pixels, shown, labels)
    except (CorruptFileError, UnreadableFileError):
        raise
    except Exception as error:  # Pillow raises any exception on a damaged chunk
        # Its own words name the open file by its number, which differs from look to look.
        why = "it is not a PNG" if isinstance(error, UnidentifiedImageError) else str(error)
        raise CorruptFileError(
            f"{path} cannot be read as a frame: {why}.", "Delete it; nothing else needs it."
        ) from error


def frame_problem(path: Path) -> str:
    """What is wrong with a frame's file, checksums included, as a message; empty if nothing is."""
    try:
        read_frame(path)
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as picture:
            picture.verify()  # the checksums of all its parts
    except CorruptFileError as error:
        return error.message
    except (OSError, ValueError, SyntaxError) as error:
        return f"{path} is damaged: {error}."
    return ""


def frame_iterations(folder: Path) -> list[int]:
    """Iterations that have a frame, ascending.

    Raises:
        UnreadableFileError: the system refuses to list them now.
    """
    found = [iteration_of(path) for path in paths_in(folder, ".png")]
    return sorted(iteration for iteration in found if iteration is not None)


def frame_path(folder: Path, iteration: int) -> Path:
    """Where the frame of an iteration is."""
    return folder / f"{iteration:07d}.png"


def thin(folder: Path, keep: Collection[int]) -> None:
    """Remove every second frame until the film is within its bounds; never the first, the last or those in `keep`."""
    while True:
        there = frame_iterations(folder)
        size = sum(frame_path(folder, iteration).stat().st_size for iteration in there)
        if len(there) <= MOST_FRAMES and size <= MOST_BYTES:
            return
        away = [iteration for iteration in there[1:-1] if iteration not in keep][::2]
        if not away:
            return
        for iteration in away:
            disk.remove(frame_path(folder, iteration))


def _top_labels(raw: list[Any], count: int) -> TopLabels:
    if len(raw) != count:
        raise ValueError("its numbers of labels and images differ")
    for image in raw:
        for k, p in image:
            if not (whole_number(k) and 0 <= k < MOST_CLASSES and number(p)):
                raise ValueError("its labels are impossible")
    return [[(k, float(p)) for k, p in image] for image in raw]


def _factor(side: int) -> int:
    return max(1, math.ceil(SMALLEST / side))
