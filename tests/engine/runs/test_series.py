"""Series and samples against naive oracles: every point kept."""

import numpy as np
import pytest

from engine.runs.series import CAPACITY, Sample, Series


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
    assert series.points().x.max() <= 40 and series.latest == 40
    series.extend([41], [0.5])
    assert series.points().x[-1] == 41


def test_points_that_are_merged_are_cut_by_the_bucket() -> None:
    series = Series()
    series.extend(range(1, 2 * CAPACITY + 1), [float(n) for n in range(1, 2 * CAPACITY + 1)])
    assert series.stride == 2 and len(series) == CAPACITY
    series.cut(7)  # buckets (1, 2), (3, 4), (5, 6), (7, 8): the last of them holds 8
    assert series.points().x.tolist() == [1.5, 3.5, 5.5] and series.latest == 5.5
    series.extend([7, 8, 9], [1.0, 3.0, 7.0])
    assert series.points().mean.tolist() == [1.5, 3.5, 5.5, 2.0, 7.0]
    series.cut(-1)
    assert len(series) == 0 and series.latest is None and len(series.points().x) == 0


@pytest.mark.parametrize("batch", [1, 7, 100_000])
@pytest.mark.parametrize("count", [0, 1, 2, 1000, Sample.MOST, 3 * Sample.MOST + 11])
def test_a_sample_is_exact_until_it_is_full_and_evenly_thinned_then(count: int, batch: int) -> None:
    if count > 10_000 and batch == 1:
        batch = 13
    values = np.random.default_rng(0).normal(size=count)
    sample = Sample()
    for start in range(0, count, batch):
        sample.extend(values[start : start + batch].tolist())
    stride = 1
    while -(-count // stride) > Sample.MOST:
        stride *= 2
    assert sample.count == count
    assert sample.median == (None if count == 0 else np.median(values[::stride]))
