"""What only DenseNets have: weights published under older keys."""

import re

import jax
import numpy as np
import pytest

from delt_jax.models import registry, torch_weights
from delt_jax.models.densenet import DenseNet


@pytest.mark.parametrize(
    ("published", "current"),
    [
        ("denseblock1.denselayer1.norm.1.weight", "denseblock1.denselayer1.norm1.weight"),
        ("denseblock4.denselayer16.conv.2.weight", "denseblock4.denselayer16.conv2.weight"),
        ("denseblock1.denselayer2.norm2.bias", "denseblock1.denselayer2.norm2.bias"),
        ("transition1.norm.weight", "transition1.norm.weight"),
        ("norm5.running_mean", "norm5.running_mean"),
    ],
)
def test_current_key(published, current):
    assert DenseNet.current_key(f"features.{published}") == f"features.{current}"


def test_takes_the_published_keys():
    module = registry.create("densenet121", 2, 29)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        registry.variable_shapes(module, 29),
    )
    state = torch_weights.to_state_dict(variables)
    published = {
        re.sub(r"(denselayer\d+\.[a-z]+)(\d)", r"\1.\2", key): value for key, value in state.items()
    }
    assert published["features.denseblock3.denselayer24.conv.1.weight"].shape == (128, 992, 1, 1)
    taken = torch_weights.from_state_dict(module, 29, published)
    jax.tree.map(np.testing.assert_array_equal, taken, variables)
