"""What image sizes and size settings a network takes, in the same words for all of them."""

from engine.errors import UsageError


def padded_side(channels: int, resolution: int) -> int:
    """The side that a network of the dataset-condensation code base sees: its first convolution pads MNIST to 32x32."""
    return 32 if (channels, resolution) == (1, 28) else resolution


def check_side(name: str, resolution: int, least: int) -> None:
    """Refuse images that a network would halve until nothing is left.

    Raises:
        UsageError: a side of less than `least` pixels.
    """
    if resolution < least:
        raise UsageError(
            f"{name} needs images of at least {least}x{least} pixels; these have {resolution}x{resolution}.",
            f"Set dataset.resolution = {least} or more, or use another network: convnet, resnet18, vgg11 and mlp take "
            "smaller images.",
        )


def check_fixed(name: str, **sizes: int | None) -> None:
    """Refuse a width or depth that a network does not have.

    Raises:
        UsageError: one of them is set.
    """
    given = [f"network.{key}" for key, value in sizes.items() if value is not None]
    if given:
        words = "does" if len(given) == 1 else "do"
        raise UsageError(f"{' and '.join(given)} {words} not apply to {name}.", "Leave it unset.")
