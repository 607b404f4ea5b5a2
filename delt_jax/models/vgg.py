"""torchvision's VGGs, without and with BatchNorm.

References:
  Simonyan and Zisserman, arXiv 1409.1556; torchvision/models/vgg.py.
"""

from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers, windows
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.sowing import sow_penultimate


class VGG(nn.Module):
    """Five stages of 3x3 convolutions that halve the side each, then three linear layers.

    Attributes:
      convolutions: how many in each stage.
      num_classes: k, the number of logits.
      batch_norm: whether each convolution is followed by a BatchNorm.
    """

    convolutions: Sequence[int]
    num_classes: int
    batch_norm: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of at least 32 pixels a side."""
        x, place = images, 0  # in torch's one sequence of layers, which counts ReLUs and pooling
        for stage, convolutions in enumerate(self.convolutions):
            for _ in range(convolutions):
                x = layers.conv(
                    x,
                    min(64 * 2**stage, 512),
                    3,
                    bias=True,
                    kernel_init=initializers.kaiming_normal_fan_out,
                    bias_init=nn.initializers.zeros,
                    name=f"features.{place}",
                )
                if self.batch_norm:
                    x = BatchNorm(name=f"features.{place + 1}")(x, train)
                x = nn.relu(x)
                place += 3 if self.batch_norm else 2
            x = windows.max_pool(x, 2, 2)
            place += 1
        x = layers.flatten(layers.adaptive_avg_pool(x, 7))
        for layer in ("classifier.0", "classifier.3"):
            x = layers.Dropout(0.5)(nn.relu(_dense(x, 4096, layer)), train)
        sow_penultimate(self, x)
        return _dense(x, self.num_classes, "classifier.6")


def _dense(x: Array, features: int, name: str) -> Array:
    init = {"kernel_init": nn.initializers.normal(0.01), "bias_init": nn.initializers.zeros}
    return layers.dense(x, features, name=name, **init)
