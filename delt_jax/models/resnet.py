"""torchvision's ResNets, with its stem or with the field's stem for small images.

References:
  He et al., arXiv 1512.03385; torchvision/models/resnet.py (stride on the 3x3 convolution of a
  bottleneck, known as ResNet v1.5).
"""

import re
from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers, windows
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.sowing import sow_penultimate


def _conv(
    x: Array,
    channels: int,
    side: int,
    stride: int,
    name: str,
    kernel_init: Initializer = initializers.kaiming_normal_fan_out,
) -> Array:
    return layers.conv(x, channels, side, stride=stride, kernel_init=kernel_init, name=name)


def _shortcut(x: Array, channels: int, stride: int, train: bool) -> Array:
    """The identity, or a 1x1 projection where the shape changes.

    Called after the block's own layers, so that the BatchNorms come in torch's order.
    """
    if stride == 1 and x.shape[-1] == channels:
        return x
    x = _conv(x, channels, 1, stride, "downsample.0")
    return BatchNorm(name="downsample.1")(x, train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `width` channels."""
        y = _conv(x, self.width, 3, self.stride, "conv1")
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = _conv(y, self.width, 3, 1, "conv2")
        y = BatchNorm(name="bn2")(y, train)
        return nn.relu(y + _shortcut(x, self.width, self.stride, train))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions (ResNet-50 and deeper); the inner two `widening` times as wide."""

    width: int
    stride: int
    widening: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `4 * width` channels."""
        channels, inner = 4 * self.width, self.widening * self.width
        y = _conv(x, inner, 1, 1, "conv1")
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = _conv(y, inner, 3, self.stride, "conv2")
        y = nn.relu(BatchNorm(name="bn2")(y, train))
        y = _conv(y, channels, 1, 1, "conv3")
        y = BatchNorm(name="bn3")(y, train)
        return nn.relu(y + _shortcut(x, channels, self.stride, train))


class WideBottleneck(Bottleneck):
    """A bottleneck whose inner layers are twice as wide (Wide ResNet-50-2, arXiv 1605.07146)."""

    widening: int = 2


class ResNet(nn.Module):
    """A residual network of four stages.

    Attributes:
      block: `BasicBlock`, `Bottleneck` or `WideBottleneck`.
      blocks: blocks in each stage.
      num_classes: k, the number of logits.
      small_images: the field's `_modified` stem, a 3x3 stride-1 convolution without max-pooling,
        instead of torchvision's 7x7 stride-2 convolution and 3x3 stride-2 max-pooling.
    """

    block: type[BasicBlock] | type[Bottleneck]
    blocks: Sequence[int]
    num_classes: int
    small_images: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        if self.small_images:
            # NOTE(parity): the field replaces torchvision's stem after building the network, so
            # that this one layer keeps torch's default initialiser.
            x = _conv(images, 64, 3, 1, "conv1", initializers.torch_default_kernel)
        else:
            x = _conv(images, 64, 7, 2, "conv1")
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        if not self.small_images:
            x = windows.max_pool(x, 3, 2, 1)
        for stage, blocks in enumerate(self.blocks):
            for index in range(blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                name = f"layer{stage + 1}.{index}"
                x = self.block(64 * 2**stage, stride, name=name)(x, train)
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="fc")

    @staticmethod
    def current_key(key: str) -> str:
        """The key here for one of the CIFAR ResNets that kuangliu and weiaicunzai publish.

        `layer2.0.shortcut.1.bias` is `layer2.0.downsample.1.bias` (both of them),
        `conv3_x.0.residual_function.4.bias` is `layer2.0.bn2.bias` (the latter).
        """
        key = key.replace(".shortcut.", ".downsample.")
        key = re.sub(r"^conv1\.([01])\.", lambda stem: f"{('conv1', 'bn1')[int(stem[1])]}.", key)
        key = re.sub(r"^conv([2-5])_x\.", lambda stage: f"layer{int(stage[1]) - 1}.", key)
        names = _RESIDUAL_FUNCTION
        return re.sub(
            r"\.residual_function\.(\d)\.",
            lambda layer: f".{names[layer[1]]}." if layer[1] in names else layer[0],
            key,
        )


# Layers of weiaicunzai/pytorch-cifar100's residual functions, between which are the activations.
_RESIDUAL_FUNCTION = {
    "0": "conv1",
    "1": "bn1",
    "3": "conv2",
    "4": "bn2",
    "6": "conv3",
    "7": "bn3",
}
