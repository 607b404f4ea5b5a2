"""Windows: our gradients against XLA's own, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from delt_jax import target
from delt_jax.models import registry, windows
from delt_jax.models.resnet import BasicBlock, ResNet

# side, stride, padding, height, width: kernels of this field and borders that do not fit.
WINDOWS = [
    (1, 2, 0, 8, 7),
    (2, 2, 0, 7, 8),
    (3, 1, 1, 6, 5),
    (3, 2, 0, 10, 13),
    (3, 2, 1, 8, 9),
    (7, 2, 3, 16, 15),
    (11, 4, 2, 23, 31),
]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _gradient(function, x, seed=0):
    y, back = jax.vjp(function, x)
    cotangent = np.random.default_rng(seed).normal(size=y.shape)
    return y, back(jnp.asarray(cotangent))[0]


@pytest.mark.parametrize(
    ("side", "stride", "padding", "height", "width", "channels"),
    [(*window, 3) for window in WINDOWS] + [(3, 2, 1, 8, 9, 6)],
)
def test_a_convolution_with_its_adjoint_has_the_gradients_of_one_without(
    side, stride, padding, height, width, channels
):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, height, width, channels)))
    kernel = jnp.asarray(rng.normal(size=(side, side, channels, 5)))
    adjoint = windows.with_adjoints({"params": {"conv": {"kernel": kernel}}})
    adjoint = adjoint[windows.ADJOINT]["conv"]["kernel"]
    pads = ((padding, padding), (padding, min(side - 1, padding + 1)))  # not the same on all sides

    def plain(x, kernel):
        return windows.convolve(x, kernel, stride, pads)

    def ours(x, kernel):
        return windows.convolve_with_adjoint(x, kernel, adjoint, stride, pads)

    wanted, back = jax.vjp(plain, x, kernel)
    found, our_back = jax.vjp(ours, x, kernel)
    cotangent = jnp.asarray(rng.normal(size=wanted.shape))
    np.testing.assert_array_equal(found, wanted)
    for our, their in zip(our_back(cotangent), back(cotangent), strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-12 * np.abs(their).max())


@pytest.mark.parametrize(
    ("platform", "side", "stride", "padding", "height", "width"),
    [("gpu", *WINDOWS[4]), ("tpu", *WINDOWS[4]), *(("cpu", *window) for window in WINDOWS[1:5])],
)
def test_max_pooling_has_the_gradient_of_a_scatter(platform, side, stride, padding, height, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3))
    x = jnp.asarray(np.round(x, 1))  # of equal pixels, the first one takes it all
    pads = ((padding, padding), (padding, padding))

    def reference(x):
        return nn.max_pool(x, (side, side), (stride, stride), pads)  # pyright: ignore[reportArgumentType]

    def ours(x):
        return windows.max_pool(x, side, stride, padding)

    wanted = _gradient(reference, x)
    with target.made_for(platform):
        for one, other in zip(_gradient(ours, x), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
        batched = jax.vmap(lambda x: _gradient(ours, x[None])[1][0])(x)
        np.testing.assert_allclose(batched[0], _gradient(ours, x[:1])[1][0], rtol=0, atol=1e-13)


def test_a_gradient_through_bfloat16_keeps_its_dtype():
    x = jnp.arange(2 * 9 * 9 * 3, dtype=jnp.bfloat16).reshape(2, 9, 9, 3)
    gradient = jax.grad(lambda x: windows.max_pool(x, 3, 2, 1).sum())(x)
    assert gradient.dtype == jnp.bfloat16


def test_a_network_with_adjoints_has_the_logits_and_image_gradients_of_one_without():
    size = 32
    module = ResNet(BasicBlock, (1, 1), 10)  # max-pooling, strides, a projected shortcut
    variables = registry.initialise(module, size, jax.random.key(0))
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)
    images = jax.random.normal(jax.random.key(1), (2, size, size, 3), jnp.float64)

    @jax.jit
    def logits_and_gradient(variables):
        logits, back = jax.vjp(lambda images: module.apply(variables, images), images)
        return logits, back(jnp.sin(jnp.arange(20.0)).reshape(2, 10))[0]

    logits, gradient = logits_and_gradient(windows.with_adjoints(variables))
    wanted, reference = logits_and_gradient(variables)
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-12 * np.abs(reference).max())
