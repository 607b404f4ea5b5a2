"""torchvision's Swin Transformers V2: attention in windows that every other block shifts.

References:
  Liu et al., arXiv 2111.09883; torchvision/models/swin_transformer.py.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Float32, Int64, Shaped

from delt_jax.models import initializers, layers
from delt_jax.models.sowing import sow_penultimate

PATCH = 4  # side of a patch in pixels
WINDOW = 8  # side of a window in patches
MASKED = -100.0  # added to the logits between patches that are no neighbours in the image
MAX_LOGIT_SCALE = 100.0
POSITION_WIDTH = 512  # inner width of the layers that make the position bias

_KERNEL_INIT = initializers.trunc_normal_002
_INIT: dict[str, Any] = {"kernel_init": _KERNEL_INIT, "bias_init": nn.initializers.zeros}


def relative_coords_table() -> Float32[np.ndarray, "1 o o 2"]:
    """Offsets (rows, columns) between two patches of a window, o = 2 WINDOW - 1; log-spaced.

    Rounded to float32 step by step as torch does, whatever is computed from it: a float64 network
    of torch's holds these values too.
    """
    offsets = np.arange(1 - WINDOW, WINDOW, dtype=np.float32) / np.float32(WINDOW - 1)
    offsets = np.float32(8) * offsets
    # Through float64, because NumPy's float32 logarithm depends on the machine.
    logarithms = np.log2(np.abs(offsets) + np.float32(1), dtype=np.float64).astype(np.float32)
    offsets = np.sign(offsets) * logarithms / np.float32(3)  # log2(8)
    return np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1)[None]


def relative_position_index() -> Int64[np.ndarray, "nn"]:
    """Row of the (flattened) table for each pair of the n = WINDOW ** 2 patches of a window."""
    place = np.stack(np.divmod(np.arange(WINDOW**2, dtype=np.int64), WINDOW), axis=-1)
    offset = place[:, None] - place[None, :] + WINDOW - 1
    return (offset @ np.array([2 * WINDOW - 1, 1])).reshape(-1)


def buffers() -> dict[str, np.ndarray]:
    """What torch's state_dict keeps of an attention layer beside its weights."""
    return {
        "relative_coords_table": relative_coords_table(),
        "relative_position_index": relative_position_index(),
    }


def _to_windows(x: Shaped[Any, "b h w c"]) -> Shaped[Any, "b i n c"]:
    """Cuts sides that are multiples of WINDOW into i windows of n patches."""
    b, height, width, c = x.shape
    x = x.reshape(b, height // WINDOW, WINDOW, width // WINDOW, WINDOW, c)
    return x.swapaxes(2, 3).reshape(b, -1, WINDOW**2, c)


def _from_windows(x: Float[Array, "b i n c"], height: int, width: int) -> Float[Array, "b h w c"]:
    """Undoes `_to_windows`."""
    b, c = len(x), x.shape[-1]
    x = x.reshape(b, height // WINDOW, width // WINDOW, WINDOW, WINDOW, c)
    return x.swapaxes(2, 3).reshape(b, height, width, c)


def _regions(height: int, width: int, shifts: Sequence[int]) -> Bool[np.ndarray, "i n 2"]:
    """Whether a patch came round from the opposite border, vertically and horizontally.

    torch tells three regions on each axis, of which no window has the first beside another.
    """
    places = (np.arange(side) >= side - shift for side, shift in zip((height, width), shifts))
    return _to_windows(np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)[None])[0]


def _unit(x: Float[Array, "... e"]) -> Float[Array, "... e"]:
    """torch.nn.functional.normalize over the last axis; its gradient is finite at 0."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide / jnp.sqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)


class PackedProjection(nn.Module):
    """Linear layer to queries, keys and values; keys get no bias, though torch stores one."""

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... 3c"]:
        """Returns the input's dtype."""
        c = x.shape[-1]
        kernel = self.param("kernel", _KERNEL_INIT, (c, 3 * c), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (3 * c,), jnp.float32)
        bias = jnp.where(np.repeat([True, False, True], c), bias, 0)
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


class WindowAttention(nn.Module):
    """Cosine attention within windows of WINDOW x WINDOW patches, with a bias by their offset.

    Attributes:
      heads: of the attention.
      shift: of the windows in patches, on each axis that has more than one window.
    """

    heads: int
    shift: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Returns the input's shape and dtype."""
        _, height, width, c = x.shape
        # The zeros that fill the last windows take part in the attention, as torch's do.
        x = jnp.pad(x, ((0, 0), (0, -height % WINDOW), (0, -width % WINDOW), (0, 0)))
        rows, columns = x.shape[1:3]
        shifts = [self.shift if side > WINDOW else 0 for side in (rows, columns)]
        x = jnp.roll(x, [-shift for shift in shifts], axis=(1, 2))

        packed = PackedProjection(name="qkv")(_to_windows(x))
        query, key, value = layers.split_heads(packed, self.heads)
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        bias = self._position_bias(dtype)
        if any(shifts):
            region = jnp.asarray(_regions(rows, columns, shifts))
            apart = jnp.any(region[:, None, :, None] != region[:, None, None, :], axis=-1)
            bias = bias + jnp.where(apart, MASKED, 0.0).astype(dtype)
        init = nn.initializers.constant(math.log(10))
        logit_scale = self.param("logit_scale", init, (self.heads, 1, 1), jnp.float32)
        scale = jnp.exp(jnp.minimum(logit_scale.astype(dtype), math.log(MAX_LOGIT_SCALE)))
        x = layers.attend(_unit(query), _unit(key), value, scale, bias)
        x = layers.dense(x, c, name="proj", **_INIT)

        x = jnp.roll(_from_windows(x, rows, columns), shifts, axis=(1, 2))
        return x[:, :height, :width]

    def _position_bias(self, dtype: jnp.dtype) -> Float[Array, "heads n n"]:
        """Added to the logits: a smooth function of the offset, in (0, 16)."""
        x = jnp.asarray(relative_coords_table().reshape(-1, 2), dtype)
        x = nn.relu(layers.dense(x, POSITION_WIDTH, name="cpb_mlp.0", **_INIT))
        x = layers.dense(x, self.heads, bias=False, name="cpb_mlp.2", **_INIT)
        x = 16 * nn.sigmoid(x)[relative_position_index()]
        return x.T.reshape(self.heads, WINDOW**2, WINDOW**2)


class SwinBlock(nn.Module):
    """Attention, then a feed-forward network, each normalised before it is added.

    Attributes:
      heads: of the attention.
      shift: of its windows in patches.
      drop_rate: of stochastic depth.
    """

    heads: int
    shift: int
    drop_rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """Returns the input's shape and dtype."""
        y = WindowAttention(self.heads, self.shift, name="attn")(x)
        y = layers.layer_norm(y, name="norm1")
        x = x + layers.Dropout(self.drop_rate, per_image=True)(y, train)
        y = layers.mlp(x, names=("mlp.0", "mlp.3"), **_INIT)
        y = layers.layer_norm(y, name="norm2")
        return x + layers.Dropout(self.drop_rate, per_image=True)(y, train)


class PatchMerging(nn.Module):
    """Each 2 x 2 patches become one with twice the channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 2c"]:
        """Returns half the sides, rounded up."""
        x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
        b, height, width, c = x.shape
        x = x.reshape(b, height // 2, 2, width // 2, 2, c)
        # torch's order of the four: the row varies faster than the column.
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(b, height // 2, width // 2, 4 * c)
        x = layers.dense(x, 2 * c, bias=False, name="reduction", **_INIT)
        return layers.layer_norm(x, name="norm")


class SwinTransformerV2(nn.Module):
    """A hierarchy of transformers, each stage with half the side and twice the channels.

    Attributes:
      blocks: blocks in each stage.
      heads: of the attention in each stage.
      width: channels of the first stage.
      num_classes: k, the number of logits.
      drop_rate: of stochastic depth in the last block; grows linearly from 0 in the first.
    """

    blocks: Sequence[int]
    heads: Sequence[int]
    width: int
    num_classes: int
    drop_rate: float = 0.2

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Logits of normalised images of any size."""
        patches = {"stride": PATCH, "padding": 0, "bias": True}
        x = layers.conv(images, self.width, PATCH, name="features.0.0", **patches)
        x = layers.layer_norm(x, name="features.0.2")
        drop_rates = iter(np.linspace(0, self.drop_rate, sum(self.blocks)).tolist())
        for stage, (blocks, heads) in enumerate(zip(self.blocks, self.heads, strict=True)):
            if stage > 0:
                x = PatchMerging(name=f"features.{2 * stage}")(x)
            for index in range(blocks):
                shift = WINDOW // 2 if index % 2 else 0
                name = f"features.{2 * stage + 1}.{index}"
                x = SwinBlock(heads, shift, next(drop_rates), name=name)(x, train)
        x = jnp.mean(layers.layer_norm(x, name="norm"), axis=(1, 2))
        sow_penultimate(self, x)
        return layers.dense(x, self.num_classes, name="head", **_INIT)
