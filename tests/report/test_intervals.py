"""Intervals of a difference, against figures from tables of Student's t."""

import pytest

from delt_jax.report.intervals import paired_interval, welch_interval


def test_welch_interval_by_hand():
    # Both variances .25: 4 degrees of freedom, t = 2.776, standard error sqrt(2 * .25 / 3) = .4082.
    low, high = welch_interval([43.0, 43.5, 44.0], [36.0, 36.5, 37.0])
    assert (low, high) == pytest.approx((5.8665, 8.1335), abs=1e-4)
    # Variances 2 and 0: the one degree of freedom of the first, t = 12.706, standard error 1.
    assert welch_interval([1.0, 3.0], [0.0, 0.0]) == pytest.approx((-10.706, 14.706), abs=1e-3)


def test_equal_seeds_leave_no_doubt_and_one_seed_all_of_it():
    assert welch_interval([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0)
    assert welch_interval([1.0], [3.0, 4.0]) == (None, None)
    assert paired_interval([1.0], [3.0]) == (None, None)
    assert paired_interval([1.5, 2.5], [1.0, 2.0]) == (0.5, 0.5)


def test_pairs_forget_what_their_classes_share():
    # Differences -.01, -.02, -.03: 2 degrees of freedom, t = 4.303, standard error .01 / sqrt(3).
    ours, theirs = [0.50, 0.70, 0.90], [0.51, 0.72, 0.93]
    low, high = paired_interval(ours, theirs)
    assert (low, high) == pytest.approx((-0.02 - 0.02484, -0.02 + 0.02484), abs=1e-5)
    wide, _ = welch_interval(ours, theirs)
    assert wide < -0.4
