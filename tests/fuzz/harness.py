"""The property every reader has to hold, and what is counted while it is tried."""

import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

from engine.errors import TeslaError
from engine.storage.atomic import disk
from tests.fuzz.reader import Reader

MOST_SECONDS = 2.0
"""Processor time one input may take; a valid one takes milliseconds."""
MOST_MEMORY = 600 * 2**20
"""Bytes by which one input may raise the peak: a frame of the largest size that is read takes half of it."""


@dataclass
class Tally:
    """What came of the inputs of one reader."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0
    """Seconds of processor time."""
    largest: int = 0
    """Bytes by which an input raised the peak."""
    reasons: Counter[str] = field(default_factory=Counter)


def resident(mark: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(mark):
            return int(line.split()[1]) * 1024
    return 0


@cache
def _valid(reader: Reader) -> Path:
    folder = Path(tempfile.mkdtemp())
    reader.lay(folder)
    return folder


def attempt(reader: Reader, change: Callable[[Path], None], folder: Path, tally: Tally) -> None:
    """One input: a valid folder, spoilt, read. Raises what is not a refusal in words, or took too much."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_valid(reader), folder)
    change(folder)
    with suppress(OSError):  # the peak so far is forgotten (Linux)
        Path("/proc/self/clear_refs").write_text("5")
    before, begun = resident("VmRSS"), time.process_time()
    try:
        # What is read here need not survive a power cut.
        with mock.patch.object(disk, "fsync"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except TeslaError as error:
        tally.refused += 1
        tally.reasons[type(error).__name__] += 1
        assert error.message.strip()
    seconds, grown = time.process_time() - begun, resident("VmHWM") - before
    tally.inputs += 1
    tally.slowest, tally.largest = max(tally.slowest, seconds), max(tally.largest, grown)
    assert seconds < MOST_SECONDS, f"{reader.name}: {seconds:.1f} s"
    assert grown < MOST_MEMORY, f"{reader.name}: {grown / 1e6:.0f} MB"
