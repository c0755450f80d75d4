"""A function in a process of its own."""

from pathlib import Path

import pytest

from engine.errors import ExitCode, TeslaError
from engine.runtime.generators import run_to_end
from engine.runtime.subprocesses import ProcessError, peak_bytes, run_isolated

MB = 2**20


def without_memory() -> None:
    raise MemoryError


@pytest.mark.slow
def test_the_peak_is_the_childs_own_and_not_its_parents() -> None:
    ballast = bytearray(400 * MB)
    small = run_to_end(run_isolated("builtins:dict", {"value": 3}))
    del ballast
    assert peak_bytes() > 400 * MB
    assert small["value"] == 3
    assert MB < small["peak_bytes"] < 200 * MB


def test_a_failing_function_says_why() -> None:
    with pytest.raises(ProcessError, match="JSONDecodeError") as caught:
        run_to_end(run_isolated("json:loads", {"s": "{"}))
    assert "Traceback (most recent call last)" in caught.value.__notes__[0]  # for the file, not for the screen


def test_an_error_for_users_and_memory_that_ran_out_pass_as_they_are() -> None:
    with pytest.raises(TeslaError, match="There is no module nowhere") as caught:
        run_to_end(run_isolated("engine.settings.trust:check_trusted", {"name": "nowhere:at_all"}))
    assert caught.value.exit_code == ExitCode.USAGE and "Run from the folder" in caught.value.hint
    with pytest.raises(TeslaError, match=r"^Out of memory") as caught:
        run_to_end(
            run_isolated(f"{__name__}:without_memory", {}, environment={"PYTHONPATH": str(Path(__file__).parents[3])})
        )
    assert caught.value.exit_code == ExitCode.OUT_OF_MEMORY
