"""torchvision's EfficientNet-B0.

References:
  Tan and Le, arXiv 1905.11946 (Table 1); torchvision/models/efficientnet.py.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate


class Stage(NamedTuple):
    """Blocks that share everything but the stride, which only the first one has."""

    expansion: int
    side: int  # of the depthwise kernel
    stride: int
    channels: int
    blocks: int


B0_STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
DROPOUT = 0.2
STOCHASTIC_DEPTH = 0.2  # rate that the blocks' own rates rise to, linearly from 0


class MBConv(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection.

    Attributes:
      stage: the block's stage.
      stride: of the depthwise convolution.
      drop_rate: chance that the branch is dropped where there is a shortcut.
    """

    stage: Stage
    stride: int
    drop_rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `stage.channels` channels."""
        inputs, (expansion, side, _, channels, _) = x.shape[-1], self.stage
        inner, act, layer, y = expansion * inputs, nn.silu, 0, x
        if expansion > 1:
            y = layers.conv_norm(y, inner, 1, train, activation=act, name="block.0")
            layer = 1
        options = {"stride": self.stride, "groups": inner, "activation": act}
        y = layers.conv_norm(y, inner, side, train, name=f"block.{layer}", **options)
        y = layers.SqueezeExcitation(
            inputs // 4,
            nn.silu,
            kernel_init=initializers.kaiming_normal_fan_out,
            bias_init=nn.initializers.zeros,
            name=f"block.{layer + 1}",
        )(y)
        y = layers.conv_norm(y, channels, 1, train, name=f"block.{layer + 2}")
        if self.stride == 1 and inputs == channels:
            y = x + layers.Dropout(self.drop_rate, per_image=True)(y, train)
        return y


class EfficientNet(nn.Module):
    """EfficientNet-B0 for images of any size."""

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        act = nn.silu
        x = layers.conv_norm(
            images, STEM_CHANNELS, 3, train, stride=2, activation=act, name="features.0"
        )
        depth, total = 0, sum(stage.blocks for stage in B0_STAGES)
        for number, stage in enumerate(B0_STAGES, 1):
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                drop_rate = STOCHASTIC_DEPTH * depth / total
                x = MBConv(stage, stride, drop_rate, name=f"features.{number}.{index}")(x, train)
                depth += 1
        name = f"features.{len(B0_STAGES) + 1}"
        x = layers.conv_norm(x, HEAD_CHANNELS, 1, train, activation=act, name=name)
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        x = layers.Dropout(DROPOUT)(x, train)
        return layers.dense(
            x,
            self.num_classes,
            kernel_init=initializers.uniform_fan_out,
            bias_init=nn.initializers.zeros,
            name="classifier.1",
        )
