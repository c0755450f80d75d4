"""What the numbers of published images are: pixels, normalised, or whitened; and on to the run's input space."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from engine.data import InputSpace
from engine.errors import DataError, UsageError

LARGEST_PIXEL = 10.0
"""Beyond this, pixels are in the scale of 0..255, not [0, 1]; distilled images do leave [0, 1], but not so far."""
LARGEST_INPUT = 1e3
"""No image in an input space has numbers beyond this; real ones have single digits, distilled ones tens."""
SLACK = 1e-3
"""For the rounding of 16-bit floats."""
ASK = "Say what they are: --space pixels, --space normalised or --space whitened."


@dataclass(frozen=True)
class Values:
    """How to read the numbers."""

    space: str
    """`normalised`, `whitened` or `pixels`."""
    scale: float
    """What pixels are divided by: 1 or 255."""
    words: str
    assumed: bool = False
    """Told from the range alone."""


def judge(images: Tensor, wanted: str | None, own: str, path: Path, known: str | None) -> Values:
    """Tell what the values are.

    Args:
        images: as stored.
        wanted: the user's `--space`; None if not given.
        own: the workspace's input space, `normalised` or `whitened`.
        path: of the images, for errors.
        known: the space by the recipe of an export beside them; None without one.

    Raises:
        DataError: several are possible, or the numbers are impossible.
    """
    if images.is_floating_point() and not torch.isfinite(images).all():
        raise DataError(f"{path} has values that are infinite or NaN.", "Use an earlier file from that run.")
    low, high = float(images.min()), float(images.max())
    std, mean = (float(value) for value in torch.std_mean(images.to(torch.float32)))
    seen = f"{_type(images)} from {low:.3g} to {high:.3g}, mean {mean:.3g}, std {std:.3g}"
    if not images.is_floating_point():
        if wanted in ("normalised", "whitened"):
            raise DataError(f"The images of {path} are whole numbers ({_type(images)}).", "Use --space pixels.")
        if low < 0 or high > 255 or (wanted is None and high <= 1):
            raise DataError(
                f"The images of {path} are whole numbers from {low:.0f} to {high:.0f}, not bytes from 0 to 255.",
                "If they are bytes, import them with --space pixels.",
            )
        return Values("pixels", 255, f"{seen}: pixels from 0 to 255")
    if max(-low, high) > LARGEST_INPUT:
        raise DataError(
            f"The images of {path} have values from {low:.3g} to {high:.3g}, which no image has.",
            "The set is damaged or diverged: use an earlier file from that run.",
        )
    if wanted is not None:
        return Values(wanted, _scale(low, high, path, wanted), f"{seen}: {wanted} (--space)")
    if known is not None:
        return Values(known, 1, f"{seen}: {known} (recipe.json beside the file)")
    return _inferred(low, high, mean, own, path, seen)


def _scale(low: float, high: float, path: Path, wanted: str) -> float:
    if wanted != "pixels" or max(-low, high) <= LARGEST_PIXEL:
        return 1
    if low < 0 or high > 255:
        raise DataError(
            f"The images of {path} range from {low:.3g} to {high:.3g}, so they are not pixels in the scale of [0, 1] "
            "or of 0 to 255.",
            "Choose another --space.",
        )
    return 255


def _inferred(low: float, high: float, mean: float, own: str, path: Path, seen: str) -> Values:
    if low >= 0 and high <= 1 + SLACK:
        return Values("pixels", 1, f"{seen}: taken for pixels from 0 to 1 (--space pixels; normalised images have "
                      "negative values)", True)  # fmt: skip
    if low >= 0 and LARGEST_PIXEL < high <= 255:
        return Values("pixels", 255, f"{seen}: taken for pixels from 0 to 255 (--space pixels)")
    if low >= 0 or (low > -0.5 and high < 1.5 and mean > 0.2):
        raise DataError(
            f"The images of {path} range from {low:.3g} to {high:.3g} with mean {mean:.3g}; they could be pixels in "
            "the scale of [0, 1] that left it, or normalised.",
            ASK,
        )
    if own == "normalised" and -1 - SLACK <= low < -0.99 and 0.99 < high <= 1 + SLACK:
        raise DataError(
            f"The images of {path} range from -1 to 1, as those normalised with mean 0.5 and std 0.5 do.",
            "If they are, give --mean and --std with 0.5 for each channel; if they are in the workspace's own space, "
            "--space normalised.",
        )
    return Values(own, 1, f"{seen}: taken for {own}, this workspace's own space (another: --space; other statistics: "
                  "--mean and --std)")  # fmt: skip


def encoded(
    images: Tensor, values: Values, space: InputSpace, statistics: tuple[Tensor, Tensor] | None, formation: int
) -> Tensor:
    """Float32 `(N * formation^2, C, H, W)` in the run's input space; the same bits where that is the publisher's.

    Args:
        images: `(N, C, H, W)` as stored.
        values: what they are.
        space: the run's.
        statistics: mean and std of the publisher's normalisation; None for the run's own.
        formation: images on a side of each stored one (IDC's factor); 1 for none.
    """
    if values.space == "pixels":
        pixels = images.to(torch.float32) / values.scale
        return space.encode(pixels if formation == 1 else split_formation(pixels, formation))
    images = images.to(torch.float32)
    if statistics is None:
        return images
    mean, std = statistics
    return space.encode(images * std + mean)


def split_formation(pixels: Tensor, factor: int) -> Tensor:
    """IDC's multi-formation (Kim et al. 2022): each image holds `factor` x `factor` smaller ones, enlarged here.

    The images of one stored image lie together. A side that `factor` does not divide is padded with grey first.
    """
    count, channels, side, _ = pixels.shape
    small = math.ceil(side / factor)
    extra = small * factor - side
    padded = functional.pad(pixels, (0, extra, 0, extra), value=0.5)
    tiles = padded.unflatten(2, (factor, small)).unflatten(4, (factor, small))
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(count * factor**2, channels, small, small)
    return functional.interpolate(tiles, size=(side, side), mode="bilinear", align_corners=False)


def publisher_statistics(mean: str | None, std: str | None, channels: int) -> tuple[Tensor, Tensor] | None:
    """`--mean` and `--std` as `(1, C, 1, 1)`; None if they were not given.

    Raises:
        UsageError: not numbers, or not one for each channel.
    """
    if mean is None or std is None:
        return None
    means, stds = _channels(mean, channels), _channels(std, channels)
    if (stds <= 0).any():
        raise UsageError("--std must be positive.")
    return means, stds


def _channels(text: str, channels: int) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{text!r} is not a list of numbers.", "Example: --mean 0.4914,0.4822,0.4465") from error
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise UsageError(f"{text!r} has {len(values)} numbers for {channels} channels.")
    return torch.tensor(values).view(1, -1, 1, 1)


def _type(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")
