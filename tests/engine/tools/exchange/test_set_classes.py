"""Which class of the dataset each class number of a published set means: with many classes, and names of strangers."""

import time

import pytest

from engine.errors import DataError
from engine.tools.exchange.card import distinct
from engine.tools.exchange.set_classes import class_order

MANY = [f"n{i:08d}" for i in range(20_000)]
"""As many as ImageNet-21k has. Time must not grow with the square of their number."""


def test_many_classes_are_matched_by_name_quickly() -> None:
    begun = time.process_time()
    order = class_order(MANY, False, None, [name.upper() for name in reversed(MANY)], "recipe.json")
    assert order.numbers == tuple(reversed(range(len(MANY))))
    assert distinct((*MANY, MANY[0]))[0] == f"{MANY[0]} (0)"
    assert time.process_time() - begun < 5


def test_a_name_twice_among_many_is_found_quickly() -> None:
    begun = time.process_time()
    with pytest.raises(DataError, match=r"the class .N00019998.* twice"):
        class_order(MANY, False, None, [*(name.upper() for name in MANY[:-1]), "N00019998"], "recipe.json")
    assert time.process_time() - begun < 5


def test_names_that_occur_twice_in_the_dataset_keep_their_order() -> None:
    order = class_order(["a", "b", "a"], False, None, ["a (0)", "b", "a (2)"], "recipe.json")
    assert order.numbers == (0, 1, 2)
