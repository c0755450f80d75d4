"""Looking at the images before any is decoded: modes, sizes, and what follows for channels, resolution and fit."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.data.decoding.pictures import BAD_FILE, GREY_MODES, Fit, Header, header_of_array
from engine.data.decoding.value_range import Ranges, measure, value_range
from engine.data.report import SKIPPED, Choice, LeftOut
from engine.data.sources import SourceSplit
from engine.errors import DataError, counted

MOST_LOOKED = 100_000
"""Images whose header is read, of all splits; of more, an even share. Decoding checks what was not looked at."""
BLOCK = 250
"""Neighbours looked at together where not all are: a table unpacks them together."""
DEFAULT_RESOLUTION = 32
"""Side where sizes differ and none is set, pixels."""
TRAITS = {
    "transparent": ("with transparency is composed over black", "with transparency are composed over black"),
    "frames": ("has several frames or pages: the first is used", "have several frames or pages: the first is used"),
    "rotated": ("is turned upright, as its EXIF data says", "are turned upright, as their EXIF data says"),
    "white is 0": (
        "with more than 8 bits says that 0 is white: 0 is taken as black",
        "with more than 8 bits say that 0 is white: 0 is taken as black",
    ),
    "16-bit colour": (
        "has 16 bits per channel: the upper 8 are used",
        "have 16 bits per channel: the upper 8 are used",
    ),
}
"""What is said about one image with a trait, and about several (see `Header`)."""
CONVERTED = {"CMYK", "YCbCr", "LAB", "HSV"}
"""Colour spaces that are converted to RGB."""


@dataclass(frozen=True)
class Survey:
    """What the headers of the images say."""

    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    traits: Counter[str]
    ranges: Ranges | None
    """Values of images with more than 8 bits; None if there are none."""
    looked: int
    """Images whose header was read."""
    total: int
    bad: int = 0
    """Images that could not be read."""
    first_bad: DataError | None = None

    @property
    def all(self) -> bool:
        """Whether every header was read."""
        return self.looked == self.total

    @property
    def words(self) -> str:
        """How many images were looked at, for people."""
        return f"all {self.total:,} images" if self.all else f"{self.looked:,} of {self.total:,} images"

    def channels(self) -> Choice:
        """1 if every mode is grey, else 3."""
        grey = {mode: count for mode, count in self.modes.items() if mode in GREY_MODES}
        if len(grey) == len(self.modes):
            return Choice("1", f"{self.words} are grey")
        if grey:
            return Choice("3", f"{sum(grey.values()):,} of {self.looked:,} images are grey, the others are in colour")
        return Choice("3", f"{self.words} are in colour")

    def resolution(self) -> Choice:
        """The side that all images have, else the default."""
        if len(self.sizes) == 1:
            ((width, height),) = self.sizes
            if width == height:
                return Choice(str(width), f"{self.words} have this size")
            reason = "images are not square"
        else:
            reason = "sizes differ" if self.sizes else "no image could be read"
        return Choice(str(DEFAULT_RESOLUTION), f"the default, as {reason}; to choose, set dataset.resolution")

    def fit(self, fit: Fit) -> Choice:
        """How images become square, and how many are not."""
        wide = sum(count for (width, height), count in self.sizes.items() if width != height)
        return Choice(fit, fit_words(fit, wide, self.looked))

    def value_range(
        self, asked: tuple[float, float] | None, *, skip: bool
    ) -> tuple[Choice, tuple[float, float] | None]:
        """Which values are black and white, for people; and for images with more than 8 bits, if there are any.

        Args:
            asked: dataset.value_range.
            skip: whether images with other values are left out.

        Raises:
            UsageError: see `engine.data.decoding.value_range.value_range`.
        """
        return value_range(asked, self.ranges, everything=self.all, skip=skip)

    def notes(self) -> tuple[str, ...]:
        """What is changed in some images, a sentence each."""
        found = [(self.traits[trait], words) for trait, words in TRAITS.items()]
        for mode in sorted(CONVERTED):
            found.append((self.modes[mode], (f"in {mode} is converted to RGB", f"in {mode} are converted to RGB")))
        of = "" if self.all else f" (of the {self.looked:,} that were looked at)"
        return tuple(
            f"1 image {one}{of}." if count == 1 else f"{count:,} images {several}{of}."
            for count, (one, several) in found
            if count
        )

    def left_out(self) -> tuple[LeftOut, ...]:
        """The images that cannot be read, where they are not refused."""
        if self.first_bad is None:
            return ()
        return (LeftOut(counted(self.bad, "image"), self.bad, SKIPPED, (self.first_bad.message,)),)


def fit_words(fit: Fit, count: int, total: int) -> str:
    """What `dataset.fit` does to `count` of `total` images, which are not square."""
    if not count:
        return f"all {total:,} images are square"
    done = {
        "crop": "the longer side is cropped to the centre",
        "pad": "the shorter side is padded with black",
        "stretch": "they are stretched",
    }[fit]
    others = " or ".join(other for other in ("crop", "pad", "stretch") if other != fit)
    return f"{count:,} of {total:,} images are not square: {done}; the other ways are dataset.fit = {others}"


def survey(splits: Iterable[SourceSplit]) -> Survey:
    """Read the headers of the images, all or an even share of them.

    Images that are no pictures are counted: the caller refuses them, or the decoder leaves them out.
    """
    parts = list(splits)
    total = sum(len(part.labels) for part in parts)
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    traits: Counter[str] = Counter()
    wide: list[tuple[SourceSplit, int]] = []
    bad, first_bad = 0, None
    for part in parts:
        for i in _looked_at(len(part.labels), total):
            try:
                found = _header(part, i)
            except DataError as error:
                bad, first_bad = bad + 1, first_bad or _named(error, part, i)
                continue
            modes[found.mode] += 1
            sizes[found.size] += 1
            traits.update(found.traits)
            if found.wide:
                wide.append((part, i))
    return Survey(modes, sizes, traits, measure(wide), sum(modes.values()), total, bad, first_bad)


def _looked_at(count: int, total: int) -> Iterator[int]:
    """Numbers of a split's images: all, or blocks at even distances that make up its share of `MOST_LOOKED`."""
    if total <= MOST_LOOKED:
        yield from range(count)
        return
    distance = BLOCK * total / MOST_LOOKED
    for number in range(max(1, int(count / distance))):
        start = int(number * distance)
        yield from range(start, min(start + BLOCK, count))


def _named(error: DataError, part: SourceSplit, i: int) -> DataError:
    """The error with the image's name and what to do, where a source does not say."""
    name = part.name(i) if part.name is not None else ""
    message = error.message if name in error.message else f"{name} cannot be read ({error.message.rstrip('.')})."
    return DataError(message, error.hint or BAD_FILE)


def _header(part: SourceSplit, i: int) -> Header:
    if part.header is not None:
        return Header(*part.header(i))
    return header_of_array(part.image(i))
