"""`tesla report`."""


def report() -> None:
    """x."""
