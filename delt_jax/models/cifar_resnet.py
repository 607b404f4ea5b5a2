"""He et al.'s residual networks for 32 x 32 images, with the parameter-free shortcut (option A).

References:
  He et al., arXiv 1512.03385, section 4.2; akamaster/pytorch_resnet_cifar10, whose torch keys and
  initial distribution these are.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.sowing import sow_penultimate


def _conv3x3(x: Array, channels: int, stride: int, name: str) -> Array:
    init = initializers.kaiming_normal_fan_in
    return layers.conv(x, channels, 3, stride=stride, kernel_init=init, name=name)


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut that subsamples and pads channels with zeros."""

    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Halves the side where `stride` is 2."""
        shortcut = x
        if self.stride != 1:
            pad = (self.channels - x.shape[-1]) // 2
            shortcut = x[:, :: self.stride, :: self.stride, :]
            shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (pad, pad)))
        x = _conv3x3(x, self.channels, self.stride, "conv1")
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        x = _conv3x3(x, self.channels, 1, "conv2")
        x = BatchNorm(name="bn2")(x, train)
        return nn.relu(x + shortcut)


class CifarResNet(nn.Module):
    """ResNet-(6n + 2) of three stages of n = `blocks` blocks with 16, 32 and 64 channels."""

    blocks: int
    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        x = _conv3x3(images, 16, 1, "conv1")
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        for stage, channels in enumerate((16, 32, 64), start=1):
            for block in range(self.blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                x = CifarBlock(channels, stride, name=f"layer{stage}.{block}")(x, train)
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        init = initializers.kaiming_normal_fan_in
        return layers.dense(x, self.num_classes, kernel_init=init, name="linear")
