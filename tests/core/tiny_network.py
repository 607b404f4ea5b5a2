"""A network and images small enough to train in a test."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class Tiny(nn.Module):
    """One convolution, a BatchNorm with torch's running update, a classifier."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), dtype=images.dtype)(images)
        x = nn.BatchNorm(not train, momentum=0.9, dtype=images.dtype)(x)
        return nn.Dense(3, dtype=images.dtype)(nn.relu(x).mean((1, 2)))


def tiny(seed=0, dtype=jnp.float32):
    module = Tiny()
    variables = jax.jit(module.init)(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))
    return module, jax.tree.map(lambda x: x.astype(dtype), variables)


def images_of(count, size=8, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
