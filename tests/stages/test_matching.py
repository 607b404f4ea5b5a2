"""A teacher as synthesis sees it."""

import jax
import jax.numpy as jnp
import numpy as np

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
