"""How stored synthetic images become those that networks see: the choices of `distill.decoder`, and their words."""

DECODERS = {"formation": "engine.data.formation:formation"}
"""By name, what makes an `engine.data.decoder.Decoder`: `(settings, (C, H, W)) -> Decoder`."""


def formation_words(factor: int) -> str:
    """What a stored picture is with `distill.formation`; empty where it is one image."""
    return f"each picture holds {factor} x {factor} smaller ones" if factor > 1 else ""


def random_words(factor: int) -> str:
    """The baseline of a run, stored as its images are."""
    return "random real images" + (f", packed {factor} x {factor}" if factor > 1 else "")
