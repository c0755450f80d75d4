"""Stages are generators that yield events and return a result; this is for callers who want only the result."""

from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def result_of(generator: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end, drop what it yields, and give what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            found: Result = end.value
            return found
