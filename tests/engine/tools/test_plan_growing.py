"""Measuring at growing sizes: within the time, within the memory, and as near to the wanted size as both allow."""

import time

import pytest

from engine.tools.plan import growing
from engine.tools.plan.growing import FIRST, Allowance, first_size, grow


class Bench:
    """Measurements that cost a second and 10 MB an item, by a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: float = 1.0) -> None:
        self.now, self.each = 0.0, each
        self.sizes: list[int] = []
        monkeypatch.setattr(growing.time, "monotonic", lambda: self.now)

    def once(self, size: int) -> tuple[dict[str, float], int]:
        self.sizes.append(size)
        self.now += self.each * size
        return {"seconds": self.each * size}, 10_000_000 * size


def test_a_small_problem_is_measured_whole_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, each=0.001)
    points = grow(100, first_size(100, 1e6), bench.once, Allowance(5), 10**12)
    assert bench.sizes == [100] and points[-1].size == 100


@pytest.mark.parametrize("most", [10.0, 45.0, 200.0])
def test_the_time_is_kept(monkeypatch: pytest.MonkeyPatch, most: float) -> None:
    bench = Bench(monkeypatch)
    points = grow(500, 2, bench.once, Allowance(most), 10**12)
    assert bench.now <= most
    assert points[-1].size > most / 4  # most of it was used for the largest size
    assert [point.size for point in points] == bench.sizes == sorted(bench.sizes)


def test_the_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, each=0.001)
    points = grow(500, 2, bench.once, Allowance(60), 10**9)
    assert points[-1].size == 100 and all(point.bytes <= 10**9 for point in points)


def test_the_smallest_is_measured_even_without_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    assert [point.size for point in grow(500, 4, bench.once, Allowance(-1), 10**12)] == [4]


def test_the_first_size_follows_from_what_an_item_costs() -> None:
    assert first_size(500, FIRST / 3.5) == 3
    assert first_size(500, 100 * FIRST) == 1  # not less than an image
    assert first_size(500, 0.0) == 500


def test_an_allowance_runs_out() -> None:
    assert 0 < Allowance(60).left <= 60
    allowance = Allowance(0.02)
    time.sleep(0.03)
    assert allowance.left < 0 and allowance.spent >= 0.03
