"""torchvision's AlexNet, the one-column variant.

References:
  Krizhevsky, arXiv 1404.5997; torchvision/models/alexnet.py.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import layers, windows
from delt_jax.models.sowing import sow_penultimate


class AlexNet(nn.Module):
    """Five convolutions and three linear layers, all as torch initialises them by default."""

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of at least 63 pixels a side."""
        x = layers.conv(images, 64, 11, stride=4, padding=2, bias=True, name="features.0")
        x = windows.max_pool(nn.relu(x), 3, 2)
        x = layers.conv(x, 192, 5, bias=True, name="features.3")
        x = windows.max_pool(nn.relu(x), 3, 2)
        x = nn.relu(layers.conv(x, 384, 3, bias=True, name="features.6"))
        x = nn.relu(layers.conv(x, 256, 3, bias=True, name="features.8"))
        x = nn.relu(layers.conv(x, 256, 3, bias=True, name="features.10"))
        x = windows.max_pool(x, 3, 2)
        x = layers.flatten(layers.adaptive_avg_pool(x, 6))
        for layer in ("classifier.1", "classifier.4"):
            x = layers.Dropout(0.5)(x, train)
            x = nn.relu(layers.dense(x, 4096, name=layer))
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="classifier.6")
