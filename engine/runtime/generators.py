"""Stages are generators that yield events and return a result; this is for callers who want only the result."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")
Other = TypeVar("Other")
Result = TypeVar("Result")


def run_to_end(generator: Generator[Item, None, Result], on_item: Callable[[Item], object] | None = None) -> Result:
    """Run a generator to its end and give what it returns; what it yields goes to a function, or is dropped.

    An exception of that function closes the generator.
    """
    with closing(generator):
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                found: Result = end.value
                return found
            if on_item is not None:
                on_item(item)


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
