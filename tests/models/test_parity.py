"""Every architecture against what torch computed from the same weights (make_goldens.py)."""

import numpy as np
import pytest
from parity import ARCHS, GOLDENS, assert_near, ours, summarise


@pytest.mark.parametrize("arch", ARCHS)
def test_agrees_with_the_golden(arch):
    summary = summarise(ours(arch))
    with np.load(GOLDENS / f"{arch}.npz") as golden:
        assert set(golden) == set(summary)
        assert list(summary.pop("batch_norms")) == list(golden["batch_norms"])
        for name, value in summary.items():
            assert_near(value, golden[name], name)
