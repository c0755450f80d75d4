"""Time left: from the pace of what is counted now."""

import pytest

from tesla_tui.render import eta
from tesla_tui.render.eta import Clock


def test_time_left_starts_anew_with_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Time:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(eta, "time", Time)
    clock = Clock()

    def left(at: float, done: float, total: float) -> float | None:
        nonlocal now
        now = at
        return clock.left(done, total)

    assert left(0, 0, 1) is None  # opening
    assert left(50, 900, 1000) is None  # resumed: those 900 took no time now
    assert left(60, 910, 1000) == pytest.approx(90)
    assert left(61, 0, 1000) is None  # the same number of something else
    assert left(71, 100, 1000) == pytest.approx(90)
