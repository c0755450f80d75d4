"""The time between two updates, against a clock that stands still until it is moved."""

import pytest

from tesla_tui.live import pace
from tesla_tui.live.pace import SHARE, SLOWEST, STOPPING, Pace


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def monotonic(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.cpu

    def move(self, wall: float, share: float) -> None:
        self.wall += wall
        self.cpu += wall * share


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_costly_updates_become_rarer_and_cheap_ones_frequent_again(clock: Clock) -> None:
    chosen = Pace(0.5)

    def after(share: float) -> float:
        clock.move(1.0, share)
        return chosen.next_interval(driving=True, stopping=False)

    assert after(SHARE / 4) == 0.5
    rising = [after(2 * SHARE) for _ in range(8)]
    assert rising[0] > 0.5 and rising == sorted(rising) and rising[-1] == SLOWEST
    assert after(0.75 * SHARE) == SLOWEST  # neither too much nor little: no change
    falling = [after(SHARE / 4) for _ in range(16)]
    assert falling[0] < SLOWEST and falling == sorted(falling, reverse=True) and falling[-1] == 0.5


def test_without_an_engine_no_update_waits(clock: Clock) -> None:
    chosen = Pace(0.5)
    for _ in range(3):
        clock.move(1.0, 1.0)
        slow = chosen.next_interval(driving=True, stopping=False)
    clock.move(1.0, 1.0)
    assert slow > 0.5 and chosen.next_interval(driving=False, stopping=False) == 0.5


def test_while_the_engine_stops_its_progress_is_shown_often(clock: Clock) -> None:
    chosen = Pace(2.0)
    clock.move(1.0, 1.0)
    assert chosen.next_interval(driving=True, stopping=True) == STOPPING < 2.0
    clock.move(1.0, 0.0)
    assert chosen.next_interval(driving=False, stopping=False) == 2.0
