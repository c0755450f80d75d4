"""A function in a process of its own."""

import pytest

from engine.errors import TeslaError
from engine.runtime.subprocesses import isolated, peak_bytes

MB = 2**20


@pytest.mark.slow
def test_the_peak_is_the_childs_own_and_not_its_parents() -> None:
    ballast = bytearray(400 * MB)
    small = isolated("builtins:dict", {"value": 3})
    del ballast
    assert peak_bytes() > 400 * MB
    assert small["value"] == 3
    assert MB < small["peak_bytes"] < 200 * MB


def test_a_failing_function_says_why() -> None:
    with pytest.raises(TeslaError, match="JSONDecodeError"):
        isolated("json:loads", {"s": "{"})
