"""Whatever is done to a file, its reader gives a value or says in words what is wrong, quickly and in little memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.harness import Tally, attempt
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS

INPUTS = 60
"""For every reader here, the same ones every time; `make fuzz` tries others for as long as one likes."""


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
def test_a_spoilt_file_is_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    tally = Tally()

    @settings(
        max_examples=max(4, int(INPUTS * reader.share)), derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(change=reader.spoil)
    def tried(change: Callable[[Path], None]) -> None:
        attempt(reader, change, tmp_path / "here", tally)

    tried()
    assert tally.refused > 0 or reader.name in ("heartbeat and driver", "evaluations", "journal")


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
def test_an_unspoilt_file_is_read(reader: Reader, tmp_path: Path) -> None:
    tally = Tally()
    attempt(reader, lambda folder: None, tmp_path / "here", tally)
    assert (tally.inputs, tally.refused) == (1, 0)
