"""Decoding pictures: any mode to grey or RGB bytes, any size to a square."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import DataError

GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F"}
UNDECODABLE = (OSError, SyntaxError, ValueError, NotImplementedError)
"""What Pillow raises for pictures it cannot decode."""
MOST_PIXELS = 100_000_000
"""A picture that claims more is taken for a decompression bomb."""


def open_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and size of a picture file, from its header alone.

    Raises:
        DataError: not a picture, no permission, or absurdly large.
    """
    try:
        with Image.open(path) as picture:
            mode, size = picture.mode, picture.size
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} is not an image that can be read ({type(error).__name__}).", BAD_FILE) from error
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: no permission.", "chmod it, or run as its owner.") from error
    except UNDECODABLE as error:
        raise DataError(f"{path} is not an image that can be read ({error}).", BAD_FILE) from error
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(f"{path} claims {size[0]} x {size[1]} pixels, too many to decode safely.", BAD_FILE)
    return mode, size


BAD_FILE = "Remove it, or leave out such files with dataset.on_bad_file = skip."


def load_picture(path: Path) -> Image.Image:
    """The decoded picture, upright.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (*UNDECODABLE, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} cannot be decoded ({error}).", BAD_FILE) from error


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
