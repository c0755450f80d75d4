"""How stored synthetic images become those that networks see: the choices of `distill.decoder`, and their words."""

DECODERS = {"formation": "engine.data.formation:formation"}
"""By name, what makes an `engine.data.decoder.Decoder`: `(settings, (C, H, W)) -> Decoder`."""


def formation_words(factor: int) -> str:
    """What a stored picture is with `distill.formation`; empty where it is one image."""
    return f"each picture holds {factor} x {factor} smaller ones" if factor > 1 else ""


def packed_words(factor: int) -> str:
    """What follows the name of a baseline that is stored as the images are; empty where they are whole."""
    return f", packed {factor} x {factor}" if factor > 1 else ""


def random_words(factor: int) -> str:
    """The baseline of a run."""
    return "random real images" + packed_words(factor)
