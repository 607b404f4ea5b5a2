"""Layers where the networks' parity covers few of the cases."""

import math

import numpy as np
import pytest

from delt_jax.models import layers


@pytest.mark.parametrize(("height", "width"), [(1, 2), (3, 7), (10, 14), (15, 6)])
def test_adaptive_avg_pool(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 5)).astype(np.float32)

    def bins(length):
        return [slice(i * length // 7, math.ceil((i + 1) * length / 7)) for i in range(7)]

    expected = [[x[:, r, c].mean((1, 2)) for c in bins(width)] for r in bins(height)]
    pooled = layers.adaptive_avg_pool(x, 7)
    np.testing.assert_allclose(pooled, np.moveaxis(expected, 2, 0), rtol=1e-5, atol=1e-6)
