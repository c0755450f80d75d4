"""Fixtures of the engine's tests."""

from collections.abc import Iterator

import pytest

from tests.engine.faulty import CUE


@pytest.fixture(autouse=True)
def no_cue() -> Iterator[None]:
    """Whatever a test tells the faulty network ends with it."""
    yield
    CUE.factor, CUE.most_images = 1.0, 0
