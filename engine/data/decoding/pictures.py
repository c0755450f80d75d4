"""Decoding pictures: any mode to grey or RGB bytes, any size to a square. Imports no PyTorch: see decode_worker.py."""

import io
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.data.decoding import deep
from engine.errors import DataError, UnreadableFileError
from engine.storage.untrusted import open_regular

WIDE_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
"""Modes with more than 8 bits, all of them grey: which values are black and white is a property of the dataset."""
GREY_MODES = {"1", "L", "LA", "La", *WIDE_MODES}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA", "JPEG2000", "PCX", "AVIF")
"""Formats that are decoded. Pillow has forty, some of which start a program (EPS: Ghostscript)."""
MOST_PIXELS = 100_000_000
"""A picture that claims more is treated as a decompression bomb."""
LARGE = 2**24
"""Pixels from which on pictures are decoded one at a time, so that many threads do not hold many of them."""
ROUNDING = 1e-6
"""Share of the value range by which a value may miss it: less than a byte can tell."""
ORIENTATION = 0x0112
"""Number of the EXIF tag that says how a camera was held."""
Fit = Literal["crop", "pad", "stretch"]
one_large: AbstractContextManager[Any] = threading.Lock()
"""Held while a large picture is decoded; a decoding process replaces it by a lock that all of them share."""

BAD_FILE = "Remove it, or leave out such files with dataset.on_bad_file = skip."
SET_RANGE = "Set dataset.value_range to the values of black and white"


class Header(NamedTuple):
    """What a picture says about itself before it is decoded."""

    mode: str
    """Pillow's."""
    size: tuple[int, int]
    """`(width, height)`, pixels."""
    traits: tuple[str, ...] = ()
    """What a user must know: `transparent`, `frames`, `rotated`, `white is 0`, `wide` (colour of more than 8 bits),
    `16-bit colour` (of which only the upper bytes are read)."""

    @property
    def wide(self) -> bool:
        """Whether it has more than 8 bits, so that a value range is needed."""
        return self.mode in WIDE_MODES or "wide" in self.traits


class PixelsError(ValueError):
    """The values of a picture cannot become bytes; the message continues a sentence that starts with its name."""

    def __init__(self, message: str, hint: str = BAD_FILE) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Target:
    """What pictures become."""

    channels: int
    """1 or 3."""
    resolution: int
    """Side of the square, pixels."""
    fit: Fit = "crop"
    value_range: tuple[float, float] | None = (0, 65535)
    """Values of black and white in modes with more than 8 bits; None: such pictures are refused."""


def open_header(path: Path) -> Header:
    """The header of a picture file.

    Raises:
        DataError: not a picture, or too large.
        UnreadableFileError: the system refuses to read it now; it is no bad file to be skipped.
    """
    try:
        with open_regular(path) as file, opened(file) as picture:
            return header_of(picture)
    except UnreadableFileError:
        raise
    except Exception as error:  # Pillow raises any exception on a damaged header
        raise DataError(f"{path} is not a readable image ({reason(error)}).", BAD_FILE) from error


def header_of(picture: Image.Image) -> Header:
    """The header of a picture that `opened` returned, not decoded yet."""
    traits = ["transparent"] if _transparent(picture) else []
    with suppress(Exception):  # damage behind the first frame is no reason to skip a picture, nor is damaged EXIF
        if getattr(picture, "is_animated", False):
            traits.append("frames")
        if "exif" in picture.info and picture.getexif().get(ORIENTATION, 1) in range(2, 9):
            traits.append("rotated")
    if picture.mode in WIDE_MODES:
        if deep.white_is_0(picture):
            traits.append("white is 0")
    elif ";16" in (raw := deep.raw_mode(picture)):
        traits.append("wide" if raw in deep.LOWER_BYTES else "16-bit colour")
    return Header(picture.mode, picture.size, tuple(traits))


def _transparent(picture: Image.Image) -> bool:
    if picture.mode in WIDE_MODES:
        return False
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def opened(file: IO[bytes]) -> Image.Image:
    """A picture, not decoded yet. It, and decoding, may raise any exception of Pillow.

    Raises:
        ValueError: too large, empty, or Pillow reads it wrongly.
    """
    if not file.read(1):
        raise ValueError("it is empty")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        Image.init()  # knows all formats; of these, Pillow may have been built without one
        picture = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
    width, height = picture.size
    if width * height > MOST_PIXELS or min(width, height) < 1:
        raise ValueError(f"it claims {width} x {height} pixels")
    deep.check_layout(picture)
    return picture


def load_picture(path: Path) -> Any:
    """The decoded picture, upright, as `decoded` returns it.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with open_regular(path) as file, opened(file) as picture:
            return decoded(picture, upright=True)
    except UnreadableFileError:
        raise
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{path} cannot be decoded ({reason(error)}).", BAD_FILE) from error


def parse_picture(data: bytes, name: str) -> Any:
    """The decoded picture of a file's bytes, upright, as `decoded` returns it.

    Raises:
        DataError: it cannot be decoded; the message starts with `name`.
    """
    try:
        with opened(io.BytesIO(data)) as picture:
            return decoded(picture, upright=True)
    except Exception as error:  # Pillow raises any exception on damaged data
        raise DataError(f"{name} cannot be decoded ({reason(error)}).", BAD_FILE) from error


def reason(error: Exception) -> str:
    """Why a picture could not be opened or decoded, for people."""
    if isinstance(error, UnidentifiedImageError):  # Pillow's words have the address of an object
        return "it is not a picture of a known format"
    return str(error)


def decoded(picture: Image.Image, *, upright: bool) -> Any:
    """The first frame of a picture in memory; `upright`: turned as its EXIF says, where that can be read.

    Returns:
        A PIL image; of colour with 16 bits per channel an array `(H, W, 3)`.

    Raises:
        ValueError: it holds integers above 2^31 - 1, which Pillow reads as negative ones.
    """
    file: Any = getattr(picture, "fp", None)
    raw = deep.raw_mode(picture)
    with one_large if picture.width * picture.height > LARGE else nullcontext():
        picture.load()
        parts = [picture, deep.lower_bytes(picture, file, raw)] if raw in deep.LOWER_BYTES else [picture]
    deep.check_integers(picture)
    parts = [_upright(part) for part in parts] if upright else parts
    return deep.joined(*parts) if len(parts) == 2 else parts[0]


def _upright(picture: Image.Image) -> Image.Image:
    with suppress(Exception):  # damaged EXIF is no reason to skip a picture
        return ImageOps.exif_transpose(picture)
    return picture


def header_of_array(picture: Any) -> Header:
    """The header of what a source returns instead of a picture file: an array `(H, W[, 3])`, or a PIL image."""
    if isinstance(picture, Image.Image):
        return header_of(picture)
    array = np.asarray(picture)
    size = (array.shape[1], array.shape[0])
    wide = array.dtype not in (np.uint8, np.bool_)
    if array.ndim == 2 or array.shape[2] == 1:
        return Header("L" if not wide else "F" if array.dtype.kind == "f" else "I", size)
    return Header("RGB", size, ("wide",) if wide else ())


def to_square(
    picture: Any,
    channels: int,
    resolution: int,
    fit: Fit = "crop",
    value_range: tuple[float, float] | None = (0, 65535),
) -> npt.NDArray[np.uint8]:
    """A picture (PIL, or array `(H, W[, 3])`) as bytes `(C, resolution, resolution)`.

    Transparency is composed over black. `fit`: bring the shorter side to `resolution` and cut out the centre (crop),
    bring the longer side to it and fill up with black (pad), or both (stretch); shrinking is the area average,
    growing is bicubic.

    Raises:
        PixelsError: a value outside `value_range` (see `Target`), or no number.
        ValueError, OSError: of a mode or size that cannot be converted.
    """
    size = (resolution, resolution)
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.dtype not in (np.uint8, np.bool_):
            array = _to_bytes(array.astype(np.float64), value_range)
        if array.shape == size and array.dtype == np.uint8 and channels == 1:
            return array[None]
        if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
            raise ValueError(f"an array of shape {array.shape} is no image")
        picture = Image.fromarray(np.ascontiguousarray(array))
    image = _plain(picture, channels, value_range)
    if image.size != size:
        image = {"crop": _cropped, "pad": _padded, "stretch": _stretched}[fit](image, resolution)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.moveaxis(array, 2, 0)


def _cropped(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    factor = side / min(width, height)
    kind = _filter(factor)
    size = (max(side, round(width * factor)), max(side, round(height * factor)))
    return ImageOps.fit(image.resize(size, kind), (side, side), kind)


def _padded(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    factor = side / max(width, height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    square = Image.new(image.mode, (side, side))
    square.paste(image.resize(size, _filter(factor)), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _stretched(image: Image.Image, side: int) -> Image.Image:
    width, height = image.size
    image = image.resize((side, height), _filter(side / width))
    return image.resize((side, side), _filter(side / height))


def _filter(factor: float) -> Image.Resampling:
    return Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC


def _plain(image: Image.Image, channels: int, value_range: tuple[float, float] | None) -> Image.Image:
    if image.mode in WIDE_MODES:
        image = Image.fromarray(_to_bytes(np.asarray(image, dtype=np.float64), value_range))
    elif _transparent(image):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    if image.mode in ("LAB", "HSV"):  # which Pillow converts to RGB only
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _to_bytes(values: npt.NDArray[np.float64], value_range: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise PixelsError("has pixels that are not finite numbers")
    if value_range is None:
        raise PixelsError(
            f"has more than 8 bits (values {low:g}..{high:g}), unlike the images that were looked at",
            f"{SET_RANGE}, or leave out such files with dataset.on_bad_file = skip.",
        )
    black, white = value_range
    slack = ROUNDING * (white - black)
    for value in (low, high):
        if not black - slack <= value <= white + slack:
            raise PixelsError(
                f"has the value {value:g}, outside the value range {black:g}..{white:g}",
                f"{SET_RANGE} of all images, or leave out such files with dataset.on_bad_file = skip.",
            )
    scaled = (values - black) * (255 / (white - black))
    return scaled.clip(0, 255).round().astype(np.uint8)
