"""What becomes of each kind of picture: one value range for a dataset, squares, transparency, and what is told."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.data.decoding.pictures import PixelsError, header_of, opened, parse_picture, to_square
from engine.errors import DataError, UsageError
from tests.engine.data.synthetic import file_of, noise, opened_dataset, source_of


def values(dtype: Any, low: float, high: float, count: int = 6) -> list[bytes]:
    """TIFF files of 8 x 8 values that reach from `low` to `high`."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        array = rng.uniform(low, high, (8, 8))
        array[0, :2] = low, high
        made.append(file_of(array.astype(dtype), "TIFF"))
    return made


def pixels(files: list[bytes], root: Path, **request: Any) -> np.ndarray[Any, Any]:
    return opened_dataset(source_of(files), root, **request)[0].train_images


def levels(data: bytes, low: float, high: float) -> np.ndarray[Any, Any]:
    """The bytes that the values of a file are, by the definition."""
    array = np.asarray(Image.open(io.BytesIO(data)), dtype=np.float64)
    return np.round((array - low) / (high - low) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "white"),
    [
        (np.float32, 0, 1, 1),
        (np.float32, 0.2, 0.7, 1),
        (np.uint16, 0, 65535, 65535),
        (np.uint16, 3, 40000, 65535),
        (np.int32, 0, 60000, 65535),
        (np.int32, 0, 255, 255),
        (np.int32, 4, 200, 255),
    ],
)
def test_a_range_that_is_unambiguous_is_inferred_and_shown(
    tmp_path: Path, dtype: Any, low: float, high: float, white: int
) -> None:
    files = values(dtype, low, high)
    found, _ = opened_dataset(source_of(files), tmp_path)
    assert np.array_equal(found.train_images[2, 0], levels(files[2], 0, white))
    assert found.report is not None
    assert found.report.value_range.value == f"0..{white}"
    assert f"of {np.dtype(dtype).type(low):g}..{np.dtype(dtype).type(high):g} in all 8 images" in (
        found.report.value_range.why
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high", "plausible"),
    [
        (np.uint16, 0, 4095, ["0..4095 (12-bit)", "0..16383 (14-bit)", "0..65535 (16-bit)"]),
        (np.uint16, 0, 900, ["0..1023 (10-bit)", "0..4095 (12-bit)"]),
        (np.uint16, 0, 3, ["0..255 (8-bit)", "0..65535 (16-bit)"]),
        (np.int32, -100, 100, ["-128..127 (8-bit)", "-32768..32767 (16-bit)"]),
        (np.int32, 0, 100000, ["0..100000"]),
        (np.float32, -1, 1, ["-1..1"]),
        (np.float32, 0, 90.5, ["0..100", "0..255 (8-bit)"]),
        (np.float32, 0, 0.125, ["0..1"]),
        (np.int32, 0, 1234567, ["[0, 1234567]"]),
        (np.float32, -500.5, 1200.25, ["-501..1201"]),
    ],
)
def test_a_range_that_is_ambiguous_is_asked_for(
    tmp_path: Path, dtype: Any, low: float, high: float, plausible: list[str]
) -> None:
    with pytest.raises(UsageError, match=rf"{low}\.\.{high} in all 8 images.*dataset\.value_range") as error:
        pixels(values(dtype, low, high), tmp_path)
    assert all(one in error.value.hint for one in plausible)


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.uint16, 0, 4095), (np.float32, -1, 1), (np.int32, -32768, 32767)]
)
def test_a_range_that_is_set_holds_for_all_images(tmp_path: Path, dtype: Any, low: float, high: float) -> None:
    dark = values(dtype, low, low + (high - low) / 8, 1)
    files = values(dtype, low, high, 3) + dark
    found = pixels(files, tmp_path, value_range=(low, high))
    assert np.array_equal(found[0, 0], levels(files[0], low, high))
    assert np.array_equal(found[3, 0], levels(dark[0], low, high))
    assert len(np.unique(found[:3])) > 100 and found[3].max() == 32


def test_a_value_outside_the_range_is_named_not_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = values(np.uint16, 0, 4095)
    files[3] = values(np.uint16, 0, 4096, 1)[0]
    with pytest.raises(UsageError, match=r"does not hold all values: integers of 0\.\.4096") as error:
        pixels(files, tmp_path, value_range=(0, 4095))
    assert "[0, 4096]" in error.value.hint and "dataset.on_bad_file = skip" in error.value.hint
    monkeypatch.setattr("engine.data.decoding.value_range.MOST_MEASURED", 1)  # only the first is looked at
    with pytest.raises(DataError, match=r"row 3 has the value 4096, outside the value range 0\.\.4095.*value_range"):
        pixels(files, tmp_path, value_range=(0, 4095))
    assert len(pixels(files, tmp_path, value_range=(0, 4095), on_bad_file="skip")) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_a_bad_file(tmp_path: Path, bad: float) -> None:
    files = values(np.float32, 0, 1)
    array = np.full((8, 8), 0.5, dtype=np.float32)
    array[3, 4] = bad
    files[4] = file_of(array, "TIFF")
    with pytest.raises(DataError, match="row 4 has pixels that are not finite numbers"):
        pixels(files, tmp_path)
    assert len(pixels(files, tmp_path, on_bad_file="skip")) == 5


def test_eight_bit_images_beside_others_keep_their_own_range(tmp_path: Path) -> None:
    files = [file_of(noise(i)) for i in range(4)] + values(np.uint16, 0, 65535, 2)
    found, _ = opened_dataset(source_of(files), tmp_path)
    assert np.array_equal(found.train_images[1, 0], np.asarray(noise(1)))
    assert np.array_equal(found.train_images[4, 0], levels(files[4], 0, 65535))
    assert found.report is not None and "8-bit images: 0..255" in found.report.value_range.why


def test_floats_beside_integers_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="numbers of both kinds"):
        pixels(values(np.uint16, 0, 65535, 3) + values(np.float32, 0, 1, 3), tmp_path)


@pytest.mark.parametrize(("asked", "words"), [((5, 5), "is no range"), ((0, float("nan")), "is no range")])
def test_a_range_that_is_none_is_refused(tmp_path: Path, asked: tuple[float, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pixels(values(np.uint16, 0, 4095), tmp_path, value_range=asked)


def test_a_range_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no effect: all images have 8 bits"):
        pixels([file_of(noise(i)) for i in range(4)], tmp_path, value_range=(0, 4095))
    assert len(pixels([file_of(noise(i)) for i in range(4)], tmp_path, value_range=(0, 255))) == 4


def test_an_image_with_more_bits_that_nobody_looked_at_is_named() -> None:
    with pytest.raises(PixelsError, match=r"has more than 8 bits \(values 7\.\.7\)"):
        to_square(np.full((4, 4), 7, dtype=np.uint16), 1, 4, value_range=None)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_arrays_of_colour_have_the_range_too(dtype: Any) -> None:
    array = np.random.default_rng(0).uniform(0, 1000, (4, 4, 3)).astype(dtype)
    expected = np.round(array.astype(np.float64) / 1000 * 255).astype(np.uint8)
    assert np.array_equal(to_square(array, 3, 4, value_range=(0, 1000)), np.moveaxis(expected, 2, 0))


def test_crop_pad_and_stretch() -> None:
    wide = Image.fromarray(np.repeat(np.arange(16, dtype=np.uint8) * 16, 8).reshape(16, 8).T)
    cropped = to_square(wide, 1, 8)[0]
    assert np.array_equal(cropped[0], np.arange(4, 12) * 16)
    padded = to_square(wide, 1, 8, "pad")[0]
    assert not padded[:2].any() and not padded[6:].any()
    assert np.array_equal(padded[2:6], np.tile(np.arange(8) * 32 + 8, (4, 1)))
    stretched = to_square(wide, 1, 8, "stretch")[0]
    assert np.array_equal(stretched, np.tile(np.arange(8) * 32 + 8, (8, 1)))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (300, 2), (7, 9), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_becomes_a_square(fit: Any, size: tuple[int, int], channels: int) -> None:
    assert to_square(noise(1, size, "RGB"), channels, 8, fit).shape == (channels, 8, 8)


@pytest.mark.parametrize(
    ("fit", "words"), [("crop", "longer side is cropped"), ("pad", "padded with black"), ("stretch", "are stretched")]
)
def test_how_many_are_not_square_is_told(tmp_path: Path, fit: str, words: str) -> None:
    files = [file_of(noise(i, (12, 8) if i in (3, 4) else (8, 8))) for i in range(8)]
    found, _ = opened_dataset(source_of(files), tmp_path, fit=fit)
    assert found.report is not None and found.report.fit.value == fit
    assert found.report.fit.why.startswith("2 of 10 images are not square") and words in found.report.fit.why


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colour_spaces(mode: str, channels: int) -> None:
    grey = Image.new("RGB", (4, 4), (128, 128, 128))
    image = Image.new("LAB", (4, 4), (137, 128, 128)) if mode == "LAB" else grey.convert(mode)
    found = to_square(image, channels, 4).astype(int)
    assert found.shape == (channels, 4, 4) and np.abs(found - 128).max() <= 3


def transparent(mode: str) -> bytes:
    image = noise(1, mode="RGB").convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(0)
        return file_of(image)
    if mode == "P":
        return file_of(image, transparency=bytes(256))
    return file_of(
        Image.new(mode, (8, 8), 9 if mode == "L" else (9, 9, 9)), transparency=9 if mode == "L" else (9,) * 3
    )


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L", "RGB"])
def test_transparency_of_every_kind_is_black_and_told(tmp_path: Path, mode: str) -> None:
    files = [file_of(noise(i, mode="RGB")) for i in range(4)] + [transparent(mode)] * 2
    found, _ = opened_dataset(source_of(files), tmp_path)
    assert not found.train_images[4].any() and found.train_images[0].any()
    assert found.report is not None
    assert found.report.listing.notes == ("2 images with transparency are composed over black.",)


def test_frames_turned_pictures_and_colour_spaces_are_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    two = {"save_all": True, "append_images": [noise(9)]}
    files = [
        file_of(noise(0), "GIF", **two), file_of(noise(1), "TIFF", **two),
        file_of(noise(2, mode="RGB"), "JPEG", exif=exif), file_of(noise(3, mode="CMYK"), "TIFF"), file_of(noise(4)),
    ]  # fmt: skip
    found, _ = opened_dataset(source_of(files[::-1]), tmp_path)
    assert found.report is not None
    assert found.report.listing.notes == (
        "2 images have several frames or pages: the first is used.",
        "1 image is turned upright, as its EXIF data says.",
        "2 images in CMYK are converted to RGB.",
    )
    assert np.array_equal(found.train_images[4, 0], np.asarray(Image.open(io.BytesIO(files[0])).convert("L")))


def deep_png(array: np.ndarray[Any, Any]) -> bytes:
    """A PNG of colour with 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def plain_tiff(array: np.ndarray[Any, Any], order: str = "<", packed: bool = False, **tags: int) -> bytes:
    """A TIFF file of integers `(H, W, C)`, with tags that Pillow does not write."""
    height, width, channels = array.shape
    bits = 8 * array.dtype.itemsize
    body = array.astype(array.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    body = zlib.compress(body) if packed else body
    body += b"\0" * (len(body) % 2)
    depth = 8 + len(body)  # where the bits of each channel are listed
    entries = {
        256: (3, 1, width), 257: (3, 1, height), 258: (3, channels, depth if channels > 2 else bits),
        259: (3, 1, 8 if packed else 1), 262: (3, 1, tags.get("photometric", 2 if channels > 1 else 1)),
        273: (4, 1, 8), 277: (3, 1, channels), 278: (3, 1, height), 279: (4, 1, len(body)),
        284: (3, 1, tags.get("planar", 1)),
    }  # fmt: skip
    made = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, depth + 2 * channels) + body
    made += struct.pack(f"{order}{channels}H", *[bits] * channels) + struct.pack(f"{order}H", len(entries))
    for tag, (kind, count, value) in entries.items():
        made += struct.pack(f"{order}HHI", tag, kind, count)
        made += struct.pack(f"{order}HH", value, 0) if (kind, count) == (3, 1) else struct.pack(f"{order}I", value)
    return made + bytes(4)


def deep(seed: int, high: int, channels: int = 3) -> np.ndarray[Any, Any]:
    """Colour with 16 bits per channel, of values from 0 to `high`."""
    array = np.random.default_rng(seed).integers(0, high + 1, (8, 8, channels), dtype=np.uint16)
    array[0, 0], array[0, 1] = 0, high
    return array


def test_colour_of_16_bits_keeps_both_bytes(tmp_path: Path) -> None:
    arrays = [deep(i, 4095) for i in range(6)]
    files = [
        deep_png(arrays[0]), deep_png(arrays[1]), plain_tiff(arrays[2]), plain_tiff(arrays[3], ">"),
        plain_tiff(arrays[4], packed=True), plain_tiff(arrays[5], ">", packed=True),
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"integers of 0\.\.4095 in all 8 images") as error:
        pixels(files, tmp_path)
    assert "[0, 4095]" in error.value.hint
    found = pixels(files, tmp_path, value_range=(0, 4095))
    for i, array in enumerate(arrays):
        assert np.array_equal(found[i], np.round(array / 4095 * 255).astype(np.uint8).transpose(2, 0, 1))


def test_colour_that_fills_16_bits_is_turned_and_composed_as_any_other(tmp_path: Path) -> None:
    array = deep(1, 65535, 4)
    array[..., 3] = 65535
    array[2:4, :, 3] = 0
    found = pixels([deep_png(array)] * 6, tmp_path)
    expected = np.round(array[..., :3] / 65535 * 255)
    expected[2:4] = 0
    assert np.array_equal(found[0], expected.astype(np.uint8).transpose(2, 0, 1))


def test_integers_that_pillow_reads_wrongly_are_refused() -> None:
    large = plain_tiff(np.full((8, 8, 1), 2**31, dtype=np.uint32))
    with pytest.raises(DataError, match=r"integers above 2,147,483,647"):
        parse_picture(large, "it")
    assert np.asarray(parse_picture(plain_tiff(np.full((8, 8, 1), 9, dtype=np.uint32)), "it")).max() == 9
    for packed in (False, True):
        with pytest.raises(DataError, match="channels of 16 bits one after the other"):
            parse_picture(plain_tiff(deep(0, 65535), packed=packed, planar=2), "it")


def test_white_as_0_is_told_where_pillow_does_not_turn_it_round(tmp_path: Path) -> None:
    files = [plain_tiff(deep(i, 65535, 1), photometric=0) for i in range(6)]
    found, _ = opened_dataset(source_of(files), tmp_path)
    assert found.report is not None
    assert found.report.listing.notes == ("8 images with more than 8 bits say that 0 is white: 0 is taken as black.",)


def test_the_traits_of_a_header() -> None:
    with opened(io.BytesIO(deep_png(deep(0, 65535)))) as picture:
        assert header_of(picture) == ("RGB", (8, 8), ("wide",))
    with opened(io.BytesIO(file_of(noise(1)))) as picture:
        assert header_of(picture) == ("L", (8, 8), ())
    assert parse_picture(file_of(noise(1)), "it").mode == "L"
    with pytest.raises(DataError, match=r"^it cannot be decoded .it is not a picture of a known format"):
        parse_picture(b"nothing", "it")
