"""A run's film as one moving picture, GIF, APNG or WebP, for a page, a talk or a chat."""

import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from engine.errors import UsageError, tesla
from engine.runs.preview_frames import Frame, enlarged, image_grid
from engine.runs.run import Run
from engine.storage.atomic import write_bytes
from tesla_tui.watch.previews import Film, decoded_frame

FORMATS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP"}
MOST_FRAMES = 120
MOST_PIXELS = 2**26
"""Of all frames together: of a large set there are fewer frames."""
FRAME, LAST = 80, 2000
"""Milliseconds that a frame, and the last one, are shown."""
MARGIN, CAPTION = 8, 22
PAPER, INK = (255, 255, 255), (34, 34, 34)


def write_film(run: Run, path: Path, *, factor: int = 1) -> int:
    """Write the images of a run over its iterations, the first and the newest among them; how many frames there are.

    Args:
        run: with preview frames.
        path: `.gif` (256 colours), `.png` or `.apng`, `.webp` (these without loss); a file of that name is replaced.
        factor: show the `factor` x `factor` smaller images that each picture holds as networks see them.

    Raises:
        UsageError: another suffix, or the run has no readable frames.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"A film cannot be written as {path.name}.", "Use a name that ends in .gif, .webp or .png.")
    film = Film(run)
    film.look()
    newest = film.latest()
    if newest is None:
        where = (run.folder.parents[1], "--run", run.name)
        if run.checkpoints():
            raise UsageError(f"The previews of {run.name} are gone.", f"Its images are not: {tesla('show', *where)}")
        raise UsageError(f"{run.name} has no images yet.", f"Continue it with: {tesla('run', *where)}")
    pictures = list(_pictures(film, _chosen(film.iterations, _picture(newest, factor)), factor))
    file = io.BytesIO()
    options = {"lossless": True, "method": 4} if kind == "WEBP" else {"disposal": 1} if kind == "GIF" else {}
    durations = [FRAME] * (len(pictures) - 1) + [LAST]
    pictures[0].save(
        file, format=kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options
    )
    write_bytes(path, file.getvalue(), tidy=True)
    return len(pictures)


def _chosen(iterations: list[int], size: Image.Image) -> list[int]:
    """Evenly spread ones, the first and the last among them."""
    most = max(2, min(MOST_FRAMES, MOST_PIXELS // (size.width * size.height)))
    if len(iterations) <= most:
        return iterations
    return [iterations[round(i * (len(iterations) - 1) / (most - 1))] for i in range(most)]


def _pictures(film: Film, iterations: list[int], factor: int) -> Iterator[Image.Image]:
    for iteration in iterations:
        frame = film.frame(iteration)
        if frame is not None:
            yield _picture(frame, factor)


def _picture(frame: Frame, factor: int) -> Image.Image:
    """The grid of a frame with its iteration below."""
    frame = decoded_frame(frame, factor) if factor > 1 else frame
    grid = enlarged(image_grid(frame.pixels, frame.shown), frame.pixels.shape[1])
    font = ImageFont.load_default(13)
    words = f"iteration {frame.iteration:,}"
    # As wide as for the longest number, so that all frames have one size.
    width = max(grid.width, round(font.getlength("iteration 0,000,000"))) + 2 * MARGIN
    picture = Image.new("RGB", (width, grid.height + MARGIN + CAPTION), PAPER)
    picture.paste(grid, (MARGIN, MARGIN))
    ImageDraw.Draw(picture).text((MARGIN, grid.height + MARGIN + CAPTION // 2), words, INK, font, anchor="lm")
    return picture
