"""`make fuzz`: tries the readers with new inputs for as long as one likes, and says how many there were.

python -m tests.fuzz --minutes 20 --seed 1 --only journal
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.harness import Tally, attempt
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS

BATCH = 200
"""Inputs of a reader before the next one's turn."""


def main() -> int:
    """Number of failures found, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", default="", help="readers whose name has this in it")
    asked = parser.parse_args()
    chosen = [reader for reader in READERS if asked.only in reader.name]
    with tempfile.TemporaryDirectory() as place:
        os.environ["TESLA_CACHE"] = os.environ["HF_DATASETS_CACHE"] = os.environ["TESLA_CONFIG"] = place
        tallies = {reader.name: Tally() for reader in chosen}
        until, turn, failed = time.monotonic() + 60 * asked.minutes, asked.seed, 0
        while time.monotonic() < until:
            for reader in chosen:
                failed += _batch(reader, turn, Path(place) / "here", tallies[reader.name])
            turn += 1
    _report(tallies, asked.seed, turn - asked.seed)
    return min(failed, 1)


def _batch(reader: Reader, turn: int, folder: Path, tally: Tally) -> int:
    @seed(turn)
    @settings(
        max_examples=max(4, int(BATCH * reader.share)), database=None, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(change=reader.spoil)
    def tried(change: Callable[[Path], None]) -> None:
        attempt(reader, change, folder, tally)

    try:
        tried()
    except Exception:
        print(f"--- {reader.name}, seed {turn}", flush=True)
        traceback.print_exc(limit=-6, file=sys.stdout)
        return 1
    return 0


def _report(tallies: dict[str, Tally], first: int, turns: int) -> None:
    print(f"seeds {first} .. {first + turns - 1}")
    print(f"{'reader':<26}{'inputs':>9}{'refused':>9}{'slowest, ms':>13}{'memory, MB':>12}")
    for name, tally in tallies.items():
        slow, large = f"{1000 * tally.slowest:.0f}", f"{tally.largest / 1e6:.0f}"
        print(f"{name:<26}{tally.inputs:>9,}{tally.refused:>9,}{slow:>13}{large:>12}")
    print(f"{'all':<26}{sum(t.inputs for t in tallies.values()):>9,}{sum(t.refused for t in tallies.values()):>9,}")


if __name__ == "__main__":
    sys.exit(main())
