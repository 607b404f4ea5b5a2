"""Spread of samples, and confidence intervals, so that a difference is not judged by eye."""

import statistics
from collections.abc import Sequence

import scipy.stats

CONFIDENCE = 0.95

Interval = tuple[float | None, float | None]  # (low, high); None twice where there is none


def deviation(values: Sequence[float]) -> float | None:
    """Of a sample, n - 1; None for a single number, and for none."""
    return statistics.stdev(values) if len(values) > 1 else None


def welch_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """For two samples whose variances may differ; of seeds, say.

    Welch, "The generalization of 'Student's' problem", Biometrika 34 (1947).

    Returns:
      (low, high); None twice where either sample is a single number.
    """
    if min(len(ours), len(theirs)) < 2:
        return None, None
    if statistics.variance(ours) == statistics.variance(theirs) == 0:
        difference = statistics.fmean(ours) - statistics.fmean(theirs)
        return difference, difference
    test = scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    return _limits(test.confidence_interval(CONFIDENCE))


def paired_interval(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """For two measures of the same things, in the same order; of classes, say.

    What makes one class easier than another drops out of the differences.

    Returns:
      (low, high); None twice where there is but one pair.
    """
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        return None, None
    if statistics.variance(differences) == 0:
        return differences[0], differences[0]
    test = scipy.stats.ttest_1samp(differences, 0.0)
    return _limits(test.confidence_interval(CONFIDENCE))


def _limits(interval) -> Interval:
    return float(interval.low), float(interval.high)
