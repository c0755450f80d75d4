"""Decoding pictures: any mode to grey or RGB bytes, any size to a square."""

import threading
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import DataError
from engine.storage.untrusted import open_regular

GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "PCX", "AVIF")
"""Formats that are decoded. Pillow has forty, some of which start a program (EPS: Ghostscript)."""
MOST_PIXELS = 100_000_000
"""A picture that claims more is treated as a decompression bomb."""
LARGE = 2**24
"""Pixels from which on pictures are decoded one at a time, so that many threads do not hold many of them."""
_one_large = threading.Lock()


def open_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and size of a picture file, from its header alone.

    Raises:
        DataError: not a picture, no permission, or too large.
    """
    try:
        with open_regular(path) as file, opened(file) as picture:
            return picture.mode, picture.size
    except PermissionError as error:
        raise DataError(
            f"{path} cannot be read: permission denied.", "Change its mode with chmod, or run as its owner."
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not a readable image ({type(error).__name__}).", BAD_FILE) from error
    except Exception as error:  # Pillow raises any exception on a damaged header
        raise DataError(f"{path} is not a readable image ({error}).", BAD_FILE) from error


def opened(file: IO[bytes]) -> Image.Image:
    """A picture, not decoded yet. It, and decoding, may raise any exception of Pillow.

    Raises:
        ValueError: too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        Image.init()  # knows all formats; of these, Pillow may have been built without one
        picture = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    width, height = picture.size
    if width * height > MOST_PIXELS or min(width, height) < 1:
        raise ValueError(f"it claims {width} x {height} pixels")
    return picture


BAD_FILE = "Remove it, or leave out such files with dataset.on_bad_file = skip."


def load_picture(path: Path) -> Image.Image:
    """The decoded picture, upright.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with open_regular(path) as file, opened(file) as picture:
            return decoded(picture, upright=True)
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{path} cannot be decoded ({error}).", BAD_FILE) from error


def decoded(picture: Image.Image, *, upright: bool) -> Image.Image:
    """The first frame of a picture in memory; `upright`: turned as its EXIF says, where that can be read."""
    with _one_large if picture.width * picture.height > LARGE else nullcontext():
        picture.load()
    if upright:
        with suppress(Exception):  # damaged EXIF is no reason to skip a picture
            return ImageOps.exif_transpose(picture)
    return picture


def to_square(picture: Any, channels: int, resolution: int) -> npt.NDArray[np.uint8]:
    """A picture (PIL, or uint8 array `(H, W[, 3])`) as bytes `(C, resolution, resolution)`.

    Transparency is composed over black. The shorter side is brought to `resolution` (area average when shrinking,
    bicubic when growing), then the centre is cut out.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    image = _plain(image, channels)
    if image.size != (resolution, resolution):
        width, height = image.size
        factor = resolution / min(width, height)
        kind = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
        size = (max(resolution, round(width * factor)), max(resolution, round(height * factor)))
        image = ImageOps.fit(image.resize(size, kind), (resolution, resolution), kind)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.moveaxis(array, 2, 0)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # 16-bit grey: the high byte; Pillow's own conversion clips at 255. Only modes without a range of their own
        # (I, F) are judged by their values: a dark 16-bit picture must not come out brighter than a light one.
        scale = 257 if image.mode.startswith("I;16") or values.max() > 255 else 1
        image = Image.fromarray((values / scale).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")
