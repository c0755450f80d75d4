"""Intervals over runs against published values: R's own t.test examples."""

import pytest

from engine.tools.studies.statistics import Interval, mean_interval, paired_difference

DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Student's sleep data (Biometrika 6, 1908): hours gained by ten patients under two drugs."""


def test_paired_difference_of_students_sleep_data() -> None:
    # R: t.test(extra ~ group, data = sleep, paired = TRUE)
    found = paired_difference(DRUG_1, DRUG_2)
    assert found.count == 10
    assert found.mean == pytest.approx(-1.58)
    assert found.low == pytest.approx(-2.4598858, abs=1e-6)
    assert found.high == pytest.approx(-0.7001142, abs=1e-6)


def test_mean_interval_of_students_sleep_data() -> None:
    # 0.75 +- 2.262157163 * 1.789010 / sqrt(10)
    found = mean_interval(DRUG_1)
    assert found.mean == pytest.approx(0.75)
    assert found.half == pytest.approx(1.279780, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((-0.529780, 2.029780), abs=1e-5)


def test_two_values() -> None:
    # t(1) = 12.706205, s / sqrt(2) = 1/2 for 0 and 1
    found = mean_interval([0.0, 1.0])
    assert found.half == pytest.approx(6.3531024, abs=1e-6)


def test_one_value_has_no_interval() -> None:
    assert mean_interval([0.5]) == Interval(0.5, None, None, 1)
    assert mean_interval([0.5]).half is None
    assert paired_difference([0.5], [0.25]) == Interval(0.25, None, None, 1)


def test_what_seeds_share_does_not_widen_a_paired_difference() -> None:
    found = paired_difference([0.5, 0.9, 0.1], [0.4, 0.8, 0.0])
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0, 2.0], [1.0])])
def test_bad_pairs(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"at least one|shorter|longer"):
        paired_difference(a, b)
