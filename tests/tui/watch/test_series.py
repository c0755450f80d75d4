"""Series against a naive oracle: every point kept."""

import numpy as np
import pytest

from tesla_tui.watch.series import CAPACITY, Series, smoothed


@pytest.mark.parametrize("count", [1, 7, CAPACITY, CAPACITY + 1, 50_000])
@pytest.mark.parametrize("batch", [1, 13, 10_000])
def test_buckets_hold_exactly_what_was_added(count: int, batch: int) -> None:
    if count > 10_000 and batch == 1:
        count = 3000
    y = np.random.default_rng(0).normal(size=count)
    x = np.arange(1, count + 1, dtype=float)
    series = Series()
    for start in range(0, count, batch):
        series.extend(x[start : start + batch].tolist(), y[start : start + batch].tolist())
    points = series.points()
    assert len(series) <= CAPACITY and series.latest == y[-1]
    edges = np.append(np.searchsorted(x, series._first), count)
    for n in range(len(points.x)):
        part = y[edges[n] : edges[n + 1]]
        assert points.low[n] == part.min() and points.high[n] == part.max()
        assert points.mean[n] == pytest.approx(part.mean(), abs=1e-12)
    assert len(series) >= min(count, CAPACITY // 2)


def test_what_is_not_finite_is_left_out() -> None:
    series = Series()
    series.extend([1, 2, 3], [float("nan"), 1.0, float("inf")])
    assert len(series) == 1 and series.latest == 1.0


def test_cutting_forgets_what_is_beyond() -> None:
    series = Series()
    series.extend(range(1, 101), [float(n) for n in range(1, 101)])
    series.cut(40)
    assert series.points().x.max() <= 40
    series.extend([41], [0.5])
    assert series.points().x[-1] == 41


def test_smoothing_is_a_mean_of_neighbours() -> None:
    y = np.random.default_rng(1).normal(size=50)
    naive = [y[max(0, i - 4) : i + 5].mean() for i in range(50)]
    assert smoothed(y, 9) == pytest.approx(naive)
    assert (smoothed(y, 0) == y).all()
