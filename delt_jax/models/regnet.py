"""torchvision's RegNets: X, and Y with squeeze and excitation.

References:
  Radosavovic et al., arXiv 2003.13678; torchvision/models/regnet.py.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate

STEM_CHANNELS = 32


class Block(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions beside a shortcut.

    Attributes:
      width: channels of all three.
      group_width: channels of a group.
      stride: of the 3x3 convolution and of the shortcut.
      squeeze_excitation: whether channels are gated after the 3x3 convolution.
    """

    width: int
    group_width: int
    stride: int
    squeeze_excitation: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `width` channels."""
        inputs, shortcut = x.shape[-1], x
        if self.stride != 1 or inputs != self.width:  # first, as in torch's forward order
            shortcut = layers.conv_norm(x, self.width, 1, train, stride=self.stride, name="proj")
        y = layers.conv_norm(x, self.width, 1, train, activation=nn.relu, name="f.a")
        y = layers.conv_norm(
            y,
            self.width,
            3,
            train,
            stride=self.stride,
            groups=self.width // self.group_width,
            activation=nn.relu,
            name="f.b",
        )
        if self.squeeze_excitation:  # a quarter of the block's input, not of `y`
            y = layers.SqueezeExcitation(
                inputs // 4, kernel_init=initializers.kaiming_normal_fan_out, name="f.se"
            )(y)
        y = layers.conv_norm(y, self.width, 1, train, name="f.c")
        return nn.relu(shortcut + y)


class RegNet(nn.Module):
    """A RegNet for images of any size.

    Attributes:
      blocks: blocks in each stage; each stage halves the side.
      widths: channels of each stage (what the paper's linear rule is quantised to).
      group_width: channels of a group.
      num_classes: k, the number of logits.
      squeeze_excitation: RegNetY rather than RegNetX.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    num_classes: int
    squeeze_excitation: bool

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = layers.conv_norm(
            images, STEM_CHANNELS, 3, train, stride=2, activation=nn.relu, name="stem"
        )
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True), 1):
            for index in range(blocks):
                x = Block(
                    width,
                    self.group_width,
                    2 if index == 0 else 1,
                    self.squeeze_excitation,
                    name=f"trunk_output.block{stage}.block{stage}-{index}",
                )(x, train)
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(
            x,
            self.num_classes,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.zeros,
            name="fc",
        )
