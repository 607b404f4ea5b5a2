"""What the report says, and never more than is shown."""

import pytest

from delt_jax.report.wording import diversity_verdict, duration, verdict


def test_verdict_never_says_more_than_is_shown():
    def compared(difference, low, high):
        clear = low is not None and (low > 0 or high < 0)
        names = ("difference", "low", "high", "clear", "against")
        return dict(zip(names, (difference, low, high, clear, "random"), strict=True))

    sets = {"distilled": {"n": 3}}
    assert verdict(sets, [compared(4.0, 1.0, 7.0)])[1] == (
        "With 3 seeds, the distilled images are better than random real images."
    )
    assert verdict(sets, [compared(4.0, -1.0, 9.0)])[1] == (
        "With 3 seeds, the distilled images are not shown to differ from random real images."
    )
    assert "noise" in verdict(sets, [compared(4.0, None, None)])[1]
    assert verdict(sets, []) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "not measured"),
        (0.5, "0.5 s"),
        (12.34, "12.3 s"),
        (125, "2 min 05 s"),
        (104_400, "29 h 00 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_diversity_verdict_says_when_distilled_is_less_diverse():
    assert diversity_verdict({"distilled": 0.905, "selected": 0.865, "random": 0.95}) == (
        "By this measure the distilled images are less diverse than the selected real images and "
        "more diverse than random real images."
    )
    assert diversity_verdict({"random": 0.9}) == ""
