"""What parity with torch cannot tell: it runs without stochastic depth, on a last map of 1x1."""

import jax
import numpy as np
from flax import linen as nn

from delt_jax.models import layers, registry
from delt_jax.models.convnext import ConvNeXt


def test_normalises_after_the_pooling():
    module = ConvNeXt((1,), (8,), num_classes=2, drop_rate=0.0)
    variables = registry.initialise(module, 8, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))  # the last map is 2x2
    apply = jax.jit(lambda: module.apply(variables, images, mutable=["features"]))
    features = apply()[1]["features"]["penultimate"]
    np.testing.assert_allclose(features.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(features.var(1), 1, rtol=1e-3)


def test_drop_rate_grows_linearly():
    rates = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, layers.Dropout) and context.method_name == "__call__":
            assert context.module.per_image
            rates.append(context.module.rate)
        return call(*args, **kwargs)

    module = ConvNeXt((1, 2, 1, 1), (8, 16, 24, 32), num_classes=2, drop_rate=0.5)
    with nn.intercept_methods(note):
        registry.variable_shapes(module, 32)
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5])
