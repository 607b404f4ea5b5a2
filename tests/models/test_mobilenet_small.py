"""What MobileNetV2 for small images does differently: its classifier is a convolution."""

import jax
import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights

SIDE = 8


def zeros(num_classes: int) -> dict:
    module = registry.create("mobilenet_v2_small", num_classes, SIDE)
    shapes = registry.variable_shapes(module, SIDE)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def test_weights_for_other_classes_are_told_by_their_number():
    state = torch_weights.to_state_dict(zeros(10))
    assert state["conv2.weight"].shape == (10, 1280, 1, 1)
    module = registry.create("mobilenet_v2_small", 200, SIDE)
    with pytest.raises(InputError, match=r"they have 10 classes, expected 200$"):
        torch_weights.from_state_dict(module, SIDE, state)


def test_penultimate_features_are_the_pooled_ones():
    module = registry.create("mobilenet_v2_small", 10, SIDE)
    images = np.zeros((2, SIDE, SIDE, 3), np.float32)
    logits, out = jax.eval_shape(
        lambda variables: module.apply(variables, images, mutable=["features"]), zeros(10)
    )
    assert logits.shape == (2, 10)
    assert out["features"]["penultimate"].shape == (2, 1280)
