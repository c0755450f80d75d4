"""Stages are generators that yield events and return a result; this is for callers who want only the result."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

Item = TypeVar("Item")
Other = TypeVar("Other")
Result = TypeVar("Result")


def run_to_end(generator: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end, drop what it yields, and give what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            found: Result = end.value
            return found


def map_events(
    generator: Generator[Item, None, Result], change: Callable[[Item], Other]
) -> Generator[Other, None, Result]:
    """Yield what `change` makes of everything a generator yields, and return what it returns. Use as `yield from`."""
    while True:
        try:
            item = next(generator)
        except StopIteration as end:
            found: Result = end.value
            return found
        yield change(item)
