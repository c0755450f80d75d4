"""Time left: from the pace of what is counted now."""

import pytest

from tesla_tui.render import eta
from tesla_tui.render.eta import Clock


class Hands:
    """The time that a clock reads."""

    now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The time, to be set."""
    found = Hands()
    monkeypatch.setattr(eta, "time", found)
    return found


def test_time_left_starts_anew_with_what_is_counted(hands: Hands) -> None:
    clock = Clock()

    def left(at: float, done: float, total: float) -> float | None:
        hands.now = at
        return clock.left(done, total)

    assert left(0, 0, 1) is None  # opening
    assert left(50, 900, 1000) is None  # resumed: those 900 took no time now
    assert left(60, 910, 1000) == pytest.approx(90)
    assert left(61, 0, 1000) is None  # the same number of something else
    assert left(71, 100, 1000) == pytest.approx(90)


def test_compiling_counts_for_nothing(hands: Hands) -> None:
    clock = Clock()

    def left(at: float, done: float, detail: str = "") -> float | None:
        hands.now = at
        return clock.left(done, 5000, detail)

    assert left(0, 0, "compiling, 0 s") is None
    assert left(100, 0, "compiling, 100 s") is None
    assert left(100.5, 0.25) is None  # compiled; nothing is known of the pace yet
    assert left(102.5, 1.25) == pytest.approx(2 * 4998.75)  # two seconds an iteration, not a hundred
    assert left(110, 2, "compiling, 7 s") is None  # parts of another size
    assert left(111, 2.5) is None
    assert left(113, 3.5) == pytest.approx(2 * 4996.5)
