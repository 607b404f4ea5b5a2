"""The field's ConvNet-d: d blocks of convolution, BatchNorm, ReLU and average pooling.

References:
  Gidaris and Komodakis, arXiv 1804.09458; evaluation/model_utils/models.py of VILA-Lab/DELT
  (f2f81ca), whose torch keys and initial distribution these are.
"""

import re

from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import layers
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.sowing import sow_penultimate

WIDTH = 128  # channels of every block, unless a name says otherwise


class ConvNet(nn.Module):
    """ConvNet-`depth`, torch keys `layers.conv.i`, `layers.norm.i`, `classifier`."""

    depth: int
    num_classes: int
    width: int = WIDTH

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images; each block halves the side, which must last for `depth`."""
        x = images
        for block in range(self.depth):
            x = layers.conv(x, self.width, 3, bias=True, name=f"layers.conv.{block}")
            x = BatchNorm(name=f"layers.norm.{block}")(x, train)
            x = nn.relu(x)
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = layers.flatten(x)
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="classifier")

    @staticmethod
    def current_key(key: str) -> str:
        """The key here for one of VICO-UoE/DatasetCondensation's ConvNet with BatchNorm.

        Its blocks are four layers each: `features.5.bias` is `layers.norm.1.bias`.
        """
        match = re.fullmatch(r"features\.(\d+)\.(\w+)", key)
        if match is None or int(match[1]) % 4 > 1:
            return key
        block, layer = divmod(int(match[1]), 4)
        return f"layers.{('conv', 'norm')[layer]}.{block}.{match[2]}"
