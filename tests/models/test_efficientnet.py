"""What of EfficientNet-B0 the parity tests switch off: dropout and stochastic depth."""

import pytest
from flax import linen as nn

from delt_jax.models import layers, registry


def test_drop_rates_are_torchvisions():
    module = registry.create("efficientnet_b0", 3, 8)
    rates = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, layers.Dropout):
            block = ".".join(context.module.path[:-1])
            rates[block] = context.module.rate, context.module.per_image
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        registry.variable_shapes(module, 8)
    # Of block i of 16: 0.2 i / 16. Blocks without a shortcut never drop.
    assert rates.pop("") == (0.2, False)
    assert {per_image for _, per_image in rates.values()} == {True}
    assert {block: rate for block, (rate, _) in rates.items()} == pytest.approx(
        {
            "features.2.1": 0.025,
            "features.3.1": 0.05,
            "features.4.1": 0.075,
            "features.4.2": 0.0875,
            "features.5.1": 0.1125,
            "features.5.2": 0.125,
            "features.6.1": 0.15,
            "features.6.2": 0.1625,
            "features.6.3": 0.175,
        }
    )
