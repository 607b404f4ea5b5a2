"""Whether an ordering that somebody claims holds in what was measured: by intervals, not by eye."""

import statistics
from collections.abc import Sequence
from typing import Any

from delt_jax.report.intervals import paired_interval, welch_interval

HOLDS, FAILS, OPEN, UNKNOWN = "holds", "does not hold", "not shown", "unknown"


def judge(
    better: Sequence[float],
    worse: Sequence[float],
    higher_is_better: bool,
    paired: bool = False,
) -> dict[str, Any]:
    """Compares two samples by the confidence interval of the difference of their means.

    Args:
      better: of what is claimed to be ahead: top-1 of seeds, or cosines of classes.
      worse: of what it is claimed to be ahead of.
      higher_is_better: whether ahead is above.
      paired: the values of both are of the same things, in the same order, as those of classes are;
        otherwise the interval is Welch's.

    Returns:
      `difference` (better - worse) with its interval `low` to `high`, None where unknown, and
      `verdict`: "holds" or "does not hold" where the interval excludes zero, "not shown" where it
      does not, "unknown" where a sample is empty or a single number.
    """
    difference = low = high = None
    verdict = UNKNOWN
    if better and worse:
        difference = statistics.fmean(better) - statistics.fmean(worse)
        low, high = (paired_interval if paired else welch_interval)(better, worse)
    if low is not None and high is not None:
        above, below = low > 0, high < 0
        verdict = OPEN
        if above or below:
            verdict = HOLDS if above == higher_is_better else FAILS
    return {"difference": difference, "low": low, "high": high, "verdict": verdict}


def sentence(claim: dict[str, Any], several_students: bool = False) -> str:
    """A claim of sweep.json in words, without its verdict."""
    if claim["measure"] == "cosine":
        return f"cosine of {claim['better']} below {claim['worse']}"
    whose = f" with {claim['student']}" if several_students else ""
    return f"top-1 of {claim['better']} above {claim['worse']}{whose}"
