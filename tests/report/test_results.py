"""The statistics behind results.json (its schema: tests/stages/test_report.py)."""

import pytest
import scipy.stats

from delt_jax.report.results import welch_interval


def test_welch_interval_is_scipys():
    ours, theirs = [35.0, 36.8, 34.4], [31.0, 33.5, 28.5]
    expected = scipy.stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert welch_interval(ours, theirs) == pytest.approx((expected.low, expected.high))
    assert welch_interval([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0)
    assert welch_interval([1.0], [3.0, 4.0]) == (None, None)
