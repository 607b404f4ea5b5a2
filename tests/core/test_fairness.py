"""The scores of DD-Ranking, against numbers computed by hand."""

import numpy as np
import pytest

from delt_jax.core.fairness import augmentation_robust_score, label_robust_score, score


@pytest.mark.parametrize(
    ("difference", "expected"),
    # (e^d - .36787944) / 2.35040239; e^-.14 = .86935824, e^.1 = 1.10517092
    [(-1.0, 0.0), (0.0, 0.26894142137), (1.0, 1.0), (-0.14, 0.21335869847), (0.1, 0.31368735)],
)
def test_score_literals(x64, difference, expected):
    np.testing.assert_allclose(score(difference), expected, atol=1e-8)


def test_label_robust_score_by_hand(x64):
    # HLR = .9 - .4 = .5, IOR = .52 - .3 = .22: a = .11 - .25 = -.14.
    np.testing.assert_allclose(label_robust_score(0.9, 0.4, 0.52, 0.3), 0.21335869847, atol=1e-10)
    # All weight on IOR: what random images reach is all that counts.
    np.testing.assert_allclose(label_robust_score(0.9, 0.1, 0.4, 0.3, weight=1.0), score(0.1))


def test_augmentation_robust_score_by_hand(x64):
    # .5 (.5 - .25) + .5 (.15 - .2) = .125 - .025 = .1; of seeds, one by one.
    scores = augmentation_robust_score(
        np.array([0.5, 0.3]), np.array([0.25, 0.3]), np.array([0.15, 0.1]), np.array([0.2, 0.1])
    )
    np.testing.assert_allclose(scores, [0.31368735, 0.26894142], atol=1e-8)
