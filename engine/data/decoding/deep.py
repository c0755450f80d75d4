"""Pictures of more than 8 bits, where Pillow does not do what a file says.

Pillow has no mode for colour with 16 bits per channel, so that is read twice, once for each byte.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_NATIVE = "L" if sys.byteorder == "little" else "B"
LOWER_BYTES = {
    f"{mode};16{order}": f"{mode};16{'B' if (_NATIVE if order == 'N' else order) == 'L' else 'L'}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order in "LBN"
}
"""Raw modes of which Pillow reads the upper byte, and those that read the lower byte of the same file."""

BITS, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 262, 284, 339
"""Numbers of TIFF tags."""


def check_layout(picture: Image.Image) -> None:
    """Refuse what Pillow would read with mixed bytes.

    Raises:
        ValueError: a TIFF file with 16 bits per channel, one channel after the other.
    """
    if _tag(picture, PLANAR, 1) == 2 and 16 in _tag(picture, BITS, ()):
        raise ValueError("it stores channels of 16 bits one after the other, which cannot be read; convert it")


def check_integers(picture: Image.Image) -> None:
    """Refuse a decoded picture with integers above 2^31 - 1, which Pillow reads as negative ones.

    Raises:
        ValueError: it has such integers.
    """
    if picture.mode == "I" and _tag(picture, SAMPLE_FORMAT, (1,))[0] == 1 and np.asarray(picture).min() < 0:
        raise ValueError(f"it holds integers above {2**31 - 1:,}")


def white_is_0(picture: Image.Image) -> bool:
    """Whether a TIFF file says that 0 is white; Pillow turns it round in modes of 8 bits only."""
    return bool(_tag(picture, PHOTOMETRIC, 1) == 0)


def _tag(picture: Any, number: int, default: Any) -> Any:
    return picture.tag_v2.get(number, default) if picture.format == "TIFF" else default


def raw_mode(picture: Image.Image) -> str:
    """How Pillow reads the pixels of a picture that is not decoded yet; empty if its decoder decides."""
    tiles = getattr(picture, "tile", ())
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def lower_bytes(upper: Image.Image, file: Any, raw: str) -> Image.Image:
    """The lower bytes of a picture.

    Args:
        upper: the picture as Pillow reads it.
        file: what it was read from.
        raw: its raw mode, one of `LOWER_BYTES`.
    """
    file.seek(0)
    with Image.open(file, formats=[str(upper.format)]) as picture:
        picture.tile = [part._replace(args=_replaced(part.args, LOWER_BYTES[raw])) for part in picture.tile]
        picture.load()
        return picture


def _replaced(args: Any, raw: str) -> Any:
    return (raw, *args[1:]) if isinstance(args, tuple) else raw


def joined(upper: Image.Image, lower: Image.Image) -> npt.NDArray[np.uint16]:
    """Both bytes as `(H, W, 3)`; transparency is composed over black."""
    values = np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)
    colour = values[..., :3]
    if values.shape[2] == 4 and (values[..., 3] < 65535).any():
        colour = np.round(colour * (values[..., 3:] / 65535))
    clear = upper.info.get("transparency")
    if isinstance(clear, tuple):
        colour = np.where((colour == clear).all(axis=2, keepdims=True), 0, colour)
    return np.asarray(colour, dtype=np.uint16)
