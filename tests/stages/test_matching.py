"""A teacher as synthesis sees it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.defaults import get_base
from delt_jax.models.convnet import ConvNet
from delt_jax.stages import matching


def test_bfloat16_compute_keeps_moments_and_logits_in_float32_and_close():
    module = ConvNet(depth=2, num_classes=4, width=8)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = jax.jit(module.init)(jax.random.key(1), images)
    exact_logits, exact = matching.matching_forward(module)(variables, images)
    logits, moments = matching.matching_forward(module, jnp.dtype("bfloat16"))(variables, images)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact_logits, atol=0.05)
    for path, found in moments.items():
        assert found.first.dtype == found.second.dtype == jnp.float32
        np.testing.assert_allclose(found.first, exact[path].first, atol=0.02)
        np.testing.assert_allclose(found.second, exact[path].second, rtol=0.03, atol=0.01)


def test_the_first_batch_norm_weighs_more():
    module = ConvNet(depth=2, num_classes=4, width=8)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    variables = jax.jit(module.init)(jax.random.key(1), images)
    logits, moments = matching.matching_forward(module)(variables, images)
    labels, weights = jnp.zeros(4, jnp.int32), jnp.ones(4)
    loss, metrics = matching.matching_objective(module, 8, variables, 0.5, 10.0)(
        logits, moments, labels, weights
    )
    first, second = metrics["loss_bn"]
    np.testing.assert_allclose(loss, metrics["loss_ce"] + 0.5 * (10 * first + second), rtol=1e-6)


@pytest.mark.parametrize(("per_image", "shape"), [(False, ()), (True, (5,))])
def test_one_view_is_drawn_for_the_batch_unless_each_image_is_to_have_its_own(per_image, shape):
    module = ConvNet(depth=2, num_classes=4, width=8)
    variables = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    options = get_base().synthesis
    options.view_per_image, options.jitter = per_image, 3
    method = matching.method(module, 8, variables, ((0.5,) * 3, (0.25,) * 3), options)
    view = method.draw_view(jax.random.key(0), jnp.int32(0), jnp.float32(0.08), 5)
    assert {leaf.shape for leaf in jax.tree.leaves(view)} == {shape}
    if per_image:  # each slot draws from a stream of its own
        assert len({tuple(map(float, drawn)) for drawn in zip(*jax.tree.leaves(view))}) == 5
