"""A function in a process of its own."""

import pytest

from engine.errors import TeslaError
from engine.runtime.generators import run_to_end
from engine.runtime.subprocesses import peak_bytes, run_isolated

MB = 2**20


@pytest.mark.slow
def test_the_peak_is_the_childs_own_and_not_its_parents() -> None:
    ballast = bytearray(400 * MB)
    small = run_to_end(run_isolated("builtins:dict", {"value": 3}))
    del ballast
    assert peak_bytes() > 400 * MB
    assert small["value"] == 3
    assert MB < small["peak_bytes"] < 200 * MB


def test_a_failing_function_says_why() -> None:
    with pytest.raises(TeslaError, match="JSONDecodeError"):
        run_to_end(run_isolated("json:loads", {"s": "{"}))
