"""torchvision's MNASNet (MnasNet-B1).

References:
  Tan et al., arXiv 1807.11626; torchvision/models/mnasnet.py (version 2 of its layout, whose stem
  is scaled with the width too).
"""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import layers
from delt_jax.models.sowing import sow_penultimate

# NOTE(parity): TensorFlow's momentum of 0.9997, as in torch. The running statistics follow over
# thousands of batches, so that a short training leaves them near where they started.
_conv_norm = functools.partial(layers.conv_norm, name="layers", momentum=1 - 0.9997)

# Kernel side, stride of the first block, expansion, channels at width 1, blocks.
_STACKS = (
    (3, 2, 3, 24, 3),
    (5, 2, 3, 40, 3),
    (5, 2, 6, 80, 3),
    (3, 1, 6, 96, 2),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution and linear 1x1 projection."""

    side: int
    stride: int
    expansion: int
    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `channels` channels."""
        wide = self.expansion * x.shape[-1]
        conv = functools.partial(_conv_norm, train=train, activation=nn.relu)
        y = conv(x, wide, 1, index=0)
        y = conv(y, wide, self.side, index=3, stride=self.stride, groups=wide)
        y = _conv_norm(y, self.channels, 1, train, index=6)
        return x + y if self.stride == 1 and x.shape == y.shape else y


class MNASNet(nn.Module):
    """MNASNet.

    Attributes:
      width: factor of every layer's channels, but for the last one's 1280.
      num_classes: k, the number of logits.
    """

    width: float
    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""

        def scaled(channels: int) -> int:
            return layers.rounded_channels(self.width * channels)

        conv = functools.partial(_conv_norm, train=train, activation=nn.relu)
        x = conv(images, scaled(32), 3, index=0, stride=2)
        x = conv(x, scaled(32), 3, index=3, groups=scaled(32))
        x = _conv_norm(x, scaled(16), 1, train, index=6)
        for stack, (side, first_stride, expansion, channels, blocks) in enumerate(_STACKS, start=8):
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                name = f"layers.{stack}.{block}"
                x = InvertedResidual(side, stride, expansion, scaled(channels), name=name)(x, train)
        x = conv(x, 1280, 1, index=14)
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        x = layers.Dropout(0.2, name="classifier.0")(x, train)
        # torch: kaiming_uniform_(mode="fan_out", nonlinearity="sigmoid"), whose gain is 1
        kernel_init = nn.initializers.variance_scaling(1.0, "fan_out", "uniform")
        return layers.dense(
            x,
            self.num_classes,
            name="classifier.1",
            kernel_init=kernel_init,
            bias_init=nn.initializers.zeros,
        )
