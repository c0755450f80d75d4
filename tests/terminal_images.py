"""Pictures that a terminal was sent, decoded: Sixel and Kitty's protocol."""

import base64
import io
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SIXEL = re.compile(rb"(?:\x1b\[(\d+);(\d+)H)?\x1bP[\d;]*q(.*?)\x1b\\", re.DOTALL)
"""Where the cursor was put (row, column), and a picture."""
PART = re.compile(rb'"(\d+);(\d+);(\d+);(\d+)|#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|([$-])')
KITTY = re.compile(rb"\x1b_G([^;\x1b]*)(?:;([^\x1b]*))?\x1b\\")
PLACEHOLDER = "\U0010eeee"
FIRST = "\u0305"
"""The mark that says the first row, or column, of a picture."""


@dataclass(frozen=True)
class Shown:
    """A picture at a place, in characters from 0."""

    column: int
    row: int
    pixels: Pixels
    """`(H, W, 3)`."""


def sixels(sent: bytes) -> list[Shown]:
    """Every Sixel picture, in the order it was sent. Fails on what no decoder would understand."""
    found = []
    for match in SIXEL.finditer(sent):
        row, column = (int(number or 1) - 1 for number in match.groups()[:2])
        found.append(Shown(column, row, _decoded(match[3])))
    return found


def _decoded(data: bytes) -> Pixels:
    colours: dict[int, tuple[int, ...]] = {}
    canvas: Pixels = np.zeros((0, 0, 3), np.uint8)
    x = y = place = colour = 0
    while place < len(data):
        part = PART.match(data, place)
        assert part, f"not Sixel: {data[place : place + 20]!r}"
        place = part.end()
        if part[4]:
            canvas = np.zeros((int(part[4]), int(part[3]), 3), np.uint8)
        elif part[8]:
            colour = int(part[5])
            colours[colour] = tuple(round(int(share) * 255 / 100) for share in part.groups()[5:8])
        elif part[9]:
            colour = int(part[9])
        elif part[13]:
            x, y = 0, y + 6 * (part[13] == b"-")
        else:
            count, sign = int(part[10] or 1), part[11] or part[12]
            for bit in range(6):
                if (sign[0] - 63) >> bit & 1:
                    canvas[y + bit, x : x + count] = colours[colour]
            x += count
    return canvas


@dataclass(frozen=True)
class Kitty:
    """A picture that was transmitted, and the characters it is placed over."""

    pixels: Pixels
    columns: int
    rows: int


def kitty(sent: bytes) -> dict[int, Kitty]:
    """Every picture of Kitty's protocol by its number; later ones replace earlier ones."""
    payloads: dict[int, bytes] = {}
    found: dict[int, Kitty] = {}
    for match in KITTY.finditer(sent):
        keys = dict(pair.split("=") for pair in match[1].decode().split(",") if pair)
        number = int(keys.get("i", 0))
        if keys.get("a") == "p":
            assert keys["U"] == "1", "a virtual placement: Textual moves it as text"
            image = Image.open(io.BytesIO(base64.b64decode(payloads[number]))).convert("RGB")
            found[number] = Kitty(np.asarray(image), int(keys["c"]), int(keys["r"]))
        elif keys.get("f") == "100":
            assert len(match[2]) <= 4096
            payloads[number] = payloads.get(number, b"") + match[2]
    return found


def placed(sent: bytes) -> list[int]:
    """Numbers of the pictures that characters stand for, as they were last drawn from top to bottom.

    The colour of the text has the lower 24 bits of the number.
    """
    text = sent.decode("utf-8", "replace")
    found = re.finditer(rf"38;2;(\d+);(\d+);(\d+)[^m]*m{PLACEHOLDER}{FIRST}", text)
    numbers = [int(m[1]) << 16 | int(m[2]) << 8 | int(m[3]) for m in found]
    return list(dict.fromkeys(reversed(numbers)))[::-1]
