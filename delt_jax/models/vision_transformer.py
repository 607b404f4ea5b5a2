"""Vision Transformers with patches of 16 pixels: torchvision's and timm's (DeiT's).

Both compute the same; torch keys and initial distributions differ. The position embedding has one
row a patch, so that the weights are those of one side of the images.

References:
  Dosovitskiy et al., arXiv 2010.11929; torchvision/models/vision_transformer.py and
  MultiheadAttention of pytorch/torch/nn/modules/activation.py.
  Touvron et al. (DeiT), arXiv 2012.12877; timm/models/vision_transformer.py and deit.py.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jaxtyping import Array, Float

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate

PATCH = 16  # side of a patch in pixels
EPSILON = 1e-6  # of every LayerNorm

_ZEROS = nn.initializers.zeros
_XAVIER = nn.initializers.xavier_uniform()
_TINY = nn.initializers.normal(1e-6)
_SMALL = initializers.trunc_normal_002
_TIMM_INIT: dict[str, Any] = {"kernel_init": _SMALL, "bias_init": _ZEROS}


def _layer_norm(x: Array, name: str) -> Array:
    return layers.layer_norm(x, epsilon=EPSILON, name=name)


def _patches(x: Array, width: int, name: str, **init: Any) -> Array:
    """Each patch in `width` channels."""
    return layers.conv(x, width, PATCH, stride=PATCH, padding=0, bias=True, name=name, **init)


def _embed(
    module: nn.Module,
    patches: Float[Array, "b h w d"],
    token: tuple[str, Initializer],
    position: tuple[str, Initializer],
) -> Float[Array, "b n d"]:
    """The class token, then the patches row by row, each with its position embedding.

    Args:
      module: whose parameters the two are.
      patches: already projected.
      token: name and initialiser of the class token.
      position: likewise of the position embedding.
    """
    batch, height, width, channels = patches.shape
    shape = (1, 1 + height * width, channels)
    class_token = module.param(*token, (1, 1, channels), jnp.float32).astype(patches.dtype)
    embedding = module.param(*position, shape, jnp.float32).astype(patches.dtype)
    first = jnp.broadcast_to(class_token, (batch, 1, channels))
    rest = patches.reshape(batch, height * width, channels)
    return jnp.concatenate([first, rest], axis=1) + embedding


class MultiheadAttention(nn.Module):
    """torch.nn.MultiheadAttention of a sequence with itself."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the input's shape and dtype."""
        width = x.shape[-1]
        # One packed weight of this module, where timm and Swin have a linear layer "qkv".
        kernel = self.param("in_proj_kernel", _XAVIER, (width, 3 * width), jnp.float32)
        bias = self.param("in_proj_bias", _ZEROS, (3 * width,), jnp.float32)
        packed = x @ kernel.astype(x.dtype) + bias.astype(x.dtype)
        x = layers.attend(*layers.split_heads(packed, self.heads))
        return layers.dense(x, width, bias_init=_ZEROS, name="out_proj")


class EncoderBlock(nn.Module):
    """torchvision's block."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the input's shape and dtype."""
        y = _layer_norm(x, "ln_1")
        x = x + MultiheadAttention(self.heads, name="self_attention")(y)
        y = _layer_norm(x, "ln_2")
        return x + layers.mlp(y, names=("mlp.0", "mlp.3"), kernel_init=_XAVIER, bias_init=_TINY)


class VisionTransformer(nn.Module):
    """torchvision's.

    Attributes:
      depth: number of blocks.
      width: channels of each token.
      heads: of each block's attention.
      num_classes: k, the number of logits.
    """

    depth: int
    width: int
    heads: int
    num_classes: int

    @staticmethod
    def current_key(key: str) -> str:
        """Published files are older than torchvision's MLP, and name its layers otherwise."""
        return key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of the side that the weights are for."""
        del train  # neither BatchNorm nor, by default, dropout
        # trunc_normal_ with torch's LeCun deviation, again cut far away from it.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        x = _patches(images, self.width, "conv_proj", kernel_init=init, bias_init=_ZEROS)
        x = _embed(self, x, ("class_token", _ZEROS), ("encoder.pos_embedding", _SMALL))
        for index in range(self.depth):
            x = EncoderBlock(self.heads, name=f"encoder.layers.encoder_layer_{index}")(x)
        x = _layer_norm(x, "encoder.ln")[:, 0]
        sow_penultimate(self, x)
        k, name = self.num_classes, "heads.head"
        return layers.dense(x, k, kernel_init=_ZEROS, bias_init=_ZEROS, name=name)


class DeiTBlock(nn.Module):
    """timm's block."""

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the input's shape and dtype."""
        width = x.shape[-1]
        y = _layer_norm(x, "norm1")
        packed = layers.dense(y, 3 * width, name="attn.qkv", **_TIMM_INIT)
        y = layers.attend(*layers.split_heads(packed, self.heads))
        x = x + layers.dense(y, width, name="attn.proj", **_TIMM_INIT)
        y = _layer_norm(x, "norm2")
        return x + layers.mlp(y, names=("mlp.fc1", "mlp.fc2"), **_TIMM_INIT)


class DeiT(nn.Module):
    """timm's, without a distillation token; attributes as `VisionTransformer`'s."""

    depth: int
    width: int
    heads: int
    num_classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of the side that the weights are for."""
        del train  # neither BatchNorm nor, by default, dropout
        x = _patches(images, self.width, "patch_embed.proj")
        x = _embed(self, x, ("cls_token", _TINY), ("pos_embed", _SMALL))
        for index in range(self.depth):
            x = DeiTBlock(self.heads, name=f"blocks.{index}")(x)
        x = _layer_norm(x, "norm")[:, 0]
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="head", **_TIMM_INIT)
