"""Smoothing against a naive mean."""

import numpy as np
import pytest

from tesla_tui.watch.series import smoothed


def test_smoothing_is_a_mean_of_neighbours() -> None:
    y = np.random.default_rng(1).normal(size=50)
    naive = [y[max(0, i - 4) : i + 5].mean() for i in range(50)]
    assert smoothed(y, 9) == pytest.approx(naive)
    assert (smoothed(y, 0) == y).all()
