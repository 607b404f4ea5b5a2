"""EfficientNet-Lite0 under timm's keys, padded and normalised as TensorFlow trained it.

EfficientNet-B0 without squeeze and excitation, and with ReLU6: made for quantisation.

References:
  Tan and Le, arXiv 1905.11946; models/official/efficientnet/lite of tensorflow/tpu;
  tf_efficientnet_lite0 in timm/models/efficientnet.py.
"""

import functools
import re

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.efficientnet import B0_STAGES, HEAD_CHANNELS, STEM_CHANNELS, Stage
from delt_jax.models.sowing import sow_penultimate

_conv = functools.partial(
    layers.conv, padding="SAME", kernel_init=initializers.kaiming_normal_fan_out
)
# timm divides the fan out by the groups, which leaves a depthwise convolution its fan in.
_depthwise = functools.partial(_conv, kernel_init=initializers.kaiming_normal_fan_in)
_norm = functools.partial(BatchNorm, epsilon=1e-3)  # TensorFlow's


class Block(nn.Module):
    """Expansion (none in the first stage), depthwise convolution, projection."""

    stage: Stage
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 c2"]:
        """Returns `stage.channels` channels."""
        inputs, (expansion, side, _, channels, _) = x.shape[-1], self.stage
        inner, y = expansion * inputs, x
        # timm names a block's layers by what it has of them.
        norms, project = ("bn1", "bn2"), "conv_pw"
        if expansion > 1:
            y = _conv(y, inner, 1, name="conv_pw")
            y = jax.nn.relu6(_norm(name="bn1")(y, train))
            norms, project = ("bn2", "bn3"), "conv_pwl"
        y = _depthwise(y, inner, side, stride=self.stride, groups=inner, name="conv_dw")
        y = jax.nn.relu6(_norm(name=norms[0])(y, train))
        y = _conv(y, channels, 1, name=project)
        y = _norm(name=norms[1])(y, train)
        return x + y if self.stride == 1 and inputs == channels else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 for images of any size.

    NOTE(parity): no dropout and no stochastic depth, which are timm's defaults; TensorFlow trained
    it with a rate of 0.2 for both.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images."""
        x = _conv(images, STEM_CHANNELS, 3, stride=2, name="conv_stem")
        x = jax.nn.relu6(_norm(name="bn1")(x, train))
        for number, stage in enumerate(B0_STAGES):
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                x = Block(stage, stride, name=f"blocks.{number}.{index}")(x, train)
        x = _conv(x, HEAD_CHANNELS, 1, name="conv_head")
        x = jax.nn.relu6(_norm(name="bn2")(x, train))
        x = jnp.mean(x, axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(
            x,
            self.num_classes,
            kernel_init=initializers.uniform_fan_out,
            bias_init=nn.initializers.zeros,
            name="classifier",
        )

    @staticmethod
    def current_key(key: str) -> str:
        """The key here for one of EfficientNet-PyTorch, whose blocks are numbered through.

        `_blocks.3._expand_conv.weight` is `blocks.2.0.conv_pw.weight`; others stay as they are.
        """
        top, _, leaf = key.partition(".")
        if top in _TOP_NAMES:
            return f"{_TOP_NAMES[top]}.{leaf}"
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None or int(match[1]) >= len(_BLOCKS):
            return key
        stage, index = _BLOCKS[int(match[1])]
        names = _BLOCK_NAMES if B0_STAGES[stage].expansion > 1 else _FIRST_BLOCK_NAMES
        if match[2] not in names:
            return key
        return f"blocks.{stage}.{index}.{names[match[2]]}.{match[3]}"


# EfficientNet-PyTorch's names, and timm's.
_TOP_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK_NAMES = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCKS = [
    (number, index) for number, stage in enumerate(B0_STAGES) for index in range(stage.blocks)
]
