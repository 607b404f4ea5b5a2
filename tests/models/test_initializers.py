"""The first weights have torch's distributions: literal bounds and deviations."""

import jax
import numpy as np
import pytest

from delt_jax.models import initializers

SHAPE = (3, 3, 64, 128)  # fan in 576, fan out 1152


@pytest.mark.parametrize(
    ("initializer", "deviation", "reach"),
    [
        (initializers.kaiming_normal_fan_out, 0.041667, (0.16, 0.26)),  # sqrt(2 / 1152)
        (initializers.kaiming_normal_fan_in, 0.058926, (0.22, 0.37)),  # sqrt(2 / 576)
        (initializers.torch_default_kernel, 0.024056, (0.0416, 0.041667)),  # 1 / sqrt(3 * 576)
    ],
)
def test_kernels(initializer, deviation, reach):
    kernel = np.asarray(initializer(jax.random.key(0), SHAPE))
    assert kernel.std() == pytest.approx(deviation, rel=0.02)
    assert reach[0] < np.abs(kernel).max() < reach[1]


def test_bias_is_uniform_in_one_over_root_fan_in():
    bias = np.asarray(initializers.torch_default_bias(100)(jax.random.key(0), (4000,)))
    assert 0.099 < np.abs(bias).max() <= 0.1
    assert bias.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
