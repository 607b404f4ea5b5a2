"""torchvision's ConvNeXts.

References:
  Liu et al., arXiv 2201.03545; torchvision/models/convnext.py.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import layers
from delt_jax.models.sowing import sow_penultimate

EPSILON = 1e-6  # of every LayerNorm

# torch.nn.init.trunc_normal_(std=0.02) truncates at +-2, a hundred deviations away: not at all.
_INIT = {"kernel_init": nn.initializers.normal(0.02), "bias_init": nn.initializers.zeros}


def _layer_norm(x: Array, name: str) -> Array:
    return layers.layer_norm(x, epsilon=EPSILON, name=name)


class Block(nn.Module):
    """A depthwise 7x7 convolution, LayerNorm, and two linear layers at every pixel; residual.

    Attributes:
      drop_rate: chance that an image skips the block in training.
    """

    drop_rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Returns the input's shape."""
        channels = x.shape[-1]
        y = layers.conv(x, channels, 7, groups=channels, bias=True, name="block.0", **_INIT)
        y = _layer_norm(y, "block.2")
        y = nn.gelu(layers.dense(y, 4 * channels, name="block.3", **_INIT), approximate=False)
        y = layers.dense(y, channels, name="block.5", **_INIT)
        init = nn.initializers.constant(1e-6)
        scale = self.param("layer_scale", init, (channels, 1, 1), jnp.float32)  # torch's shape
        y = y * scale.reshape(channels).astype(x.dtype)
        return x + layers.Dropout(self.drop_rate, per_image=True)(y, train)


class ConvNeXt(nn.Module):
    """Four stages of blocks.

    Attributes:
      blocks: blocks in each stage.
      channels: of each stage.
      num_classes: k, the number of logits.
      drop_rate: of stochastic depth in the last block; grows linearly from 0 in the first.
    """

    blocks: Sequence[int]
    channels: Sequence[int]
    num_classes: int
    drop_rate: float

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of at least 32 pixels a side."""
        patches = {"padding": 0, "bias": True, **_INIT}
        x = layers.conv(images, self.channels[0], 4, stride=4, name="features.0.0", **patches)
        x = _layer_norm(x, "features.0.1")
        drop_rates = iter(np.linspace(0, self.drop_rate, sum(self.blocks)).tolist())
        for stage, (blocks, channels) in enumerate(zip(self.blocks, self.channels, strict=True)):
            if stage > 0:
                x = _layer_norm(x, f"features.{2 * stage}.0")
                x = layers.conv(x, channels, 2, stride=2, name=f"features.{2 * stage}.1", **patches)
            for block in range(blocks):
                name = f"features.{2 * stage + 1}.{block}"
                x = Block(next(drop_rates), name=name)(x, train)
        x = jnp.mean(x, axis=(1, 2))
        x = _layer_norm(x, "classifier.0")
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="classifier.2", **_INIT)
