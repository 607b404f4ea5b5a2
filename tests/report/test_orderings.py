"""Claims are judged by their intervals."""

import pytest

from delt_jax.report.orderings import judge, sentence
from delt_jax.report.sweep_page import findings


@pytest.mark.parametrize(
    ("better", "worse", "higher_is_better", "verdict"),
    [
        ([43.0, 43.5, 44.0], [36.0, 36.5, 37.0], True, "holds"),
        ([36.0, 36.5, 37.0], [43.0, 43.5, 44.0], True, "does not hold"),
        ([36.0, 36.5, 37.0], [43.0, 43.5, 44.0], False, "holds"),
        ([35.0, 37.0], [36.0, 38.0], True, "not shown"),
        ([35.0], [20.0], True, "unknown"),
        ([], [20.0, 21.0], True, "unknown"),
    ],
)
def test_verdicts(better, worse, higher_is_better, verdict):
    assert judge(better, worse, higher_is_better)["verdict"] == verdict


def test_classes_are_compared_in_pairs_and_seeds_are_not():
    ours, theirs = [0.50, 0.70, 0.90, 0.60], [0.51, 0.72, 0.92, 0.61]
    paired = judge(ours, theirs, False, paired=True)
    assert paired["verdict"] == "holds" and paired["difference"] == pytest.approx(-0.015)
    assert judge(ours, theirs, False)["verdict"] == "not shown"


def claim(measure, verdict, student="conv3"):
    return {"better": "a", "worse": "b", "measure": measure, "verdict": verdict, "student": student}


def test_words():
    assert sentence(claim("cosine", "")) == "cosine of a below b"
    assert sentence(claim("top1", "")) == "top-1 of a above b"
    assert sentence(claim("top1", ""), True) == "top-1 of a above b with conv3"
    assert findings([claim("top1", "does not hold")]) == [
        "1 ordering tested.",
        "Reversed here (1): top-1 of a above b.",
    ]
    many = findings([claim("cosine", "holds")] * 8)
    assert many[1].startswith("Hold here (8): cosine")
    assert many[1].endswith("; and 2 more.")
    assert findings([]) == []
