"""CutMix and MixUp of a batch: draw and application apart, so that recorded draws can be fed.

Source of the semantics: `mix_aug` of VILA-Lab/DELT `evaluation/validation/utils.py` at f2f81ca: one
box (one lambda) and one permutation for the whole batch, mixed in on every batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class Patch(NamedTuple):
    """A rectangle of pixels `[top, bottom) x [left, right)`.

    Every field is an int array `[]` (shared by a batch) or `[b]`.
    """

    top: Int[Array, "..."]
    left: Int[Array, "..."]
    bottom: Int[Array, "..."]
    right: Int[Array, "..."]


class MixUp(NamedTuple):
    """One draw of MixUp for a batch of b images.

    Attributes:
      permutation: image i is blended with image `permutation[i]`, int `[b]`.
      kept: lambda, the weight of the image itself.
    """

    permutation: Int[Array, "b"]
    kept: Float[Array, ""]


class CutMix(NamedTuple):
    """One draw of CutMix for a batch of b images.

    Attributes:
      permutation: image i receives the patch of image `permutation[i]`, int `[b]`.
      kept: the drawn lambda, the share of the image's own pixels before clipping at its border.
      patch: the pixels that are exchanged.
    """

    permutation: Int[Array, "b"]
    kept: Float[Array, ""]
    patch: Patch

    def pasted(self, height: int, width: int) -> MixUp:
        """The same partners, with `kept` as the share of its own pixels that an image in fact has.

        Labels are mixed by it (Yun et al., arXiv 1905.04899, section 3.1 and their code).
        """
        patch = self.patch
        area = (patch.bottom - patch.top) * (patch.right - patch.left)
        return MixUp(self.permutation, 1 - area / (height * width))


def cutmix_patch(
    kept: Float[Array, ""] | float,
    row: Int[Array, ""] | int,
    column: Int[Array, ""] | int,
    height: int,
    width: int,
) -> Patch:
    """The patch around a centre that would leave the share `kept` of an image's pixels.

    Its sides are those of the image times sqrt(1 - kept), halved to whole pixels on either side of
    the centre and then clipped at the border, so an odd side loses a pixel and a patch near the
    border is smaller.

    Args:
      kept: lambda in [0, 1].
      row: centre, in [0, height).
      column: centre, in [0, width).
      height: rows of the image.
      width: columns of the image.

    Returns:
      A `Patch` of int32 scalars.
    """
    # NOTE(parity): the authors call axis 2 of NCHW "W" and x; their x1, y1, x2, y2 are top, left,
    # bottom, right here. For square images only the names differ.
    side = jnp.sqrt(1 - jnp.asarray(kept))
    half_rows = (height * side).astype(jnp.int32) // 2
    half_columns = (width * side).astype(jnp.int32) // 2
    return Patch(
        top=jnp.clip(row - half_rows, 0, height).astype(jnp.int32),
        left=jnp.clip(column - half_columns, 0, width).astype(jnp.int32),
        bottom=jnp.clip(row + half_rows, 0, height).astype(jnp.int32),
        right=jnp.clip(column + half_columns, 0, width).astype(jnp.int32),
    )


def draw_cutmix(
    key: Key[Array, ""], batch: int, height: int, width: int, alpha: float = 1.0
) -> CutMix:
    """Draws CutMix for a batch: lambda ~ Beta(alpha, alpha), a uniform centre, a permutation.

    Args:
      key: random key.
      batch: images in the batch.
      height: rows of an image.
      width: columns of an image.
      alpha: both parameters of the Beta distribution, > 0; 1 is uniform.

    Returns:
      A `CutMix`.
    """
    key_permutation, key_kept, key_row, key_column = jax.random.split(key, 4)
    kept = _draw_kept(key_kept, alpha)
    patch = cutmix_patch(
        kept,
        jax.random.randint(key_row, (), 0, height),
        jax.random.randint(key_column, (), 0, width),
        height,
        width,
    )
    return CutMix(jax.random.permutation(key_permutation, batch), kept, patch)


def cutmix(
    images: Float[Array, "b h w c"], permutation: Int[Array, "b"], patch: Patch
) -> Float[Array, "b h w c"]:
    """Pastes the patch of each image's partner into it.

    Args:
      images: pixels or normalised images: the paste commutes with anything done pixel by pixel.
      permutation: partner of each image.
      patch: the rectangle, the same for the whole batch.

    Returns:
      The mixed images.
    """
    return paste(images, images[permutation], patch)


def paste(
    images: Float[Array, "b h w c"], others: Float[Array, "b h w c"], patch: Patch
) -> Float[Array, "b h w c"]:
    """Replaces a patch of each image by the same pixels of its partner.

    Args:
      images: that receive.
      others: partner of each.
      patch: int scalars, or `[b]` where each image has a patch of its own.

    Returns:
      The mixed images.
    """
    _, height, width, _ = images.shape
    rows, columns = jnp.arange(height), jnp.arange(width)
    top, left, bottom, right = (jnp.reshape(edge, (-1, 1)) for edge in patch)  # [1 or b, 1]
    inside_rows = (rows[None] >= top) & (rows[None] < bottom)
    inside_columns = (columns[None] >= left) & (columns[None] < right)
    inside = inside_rows[:, :, None, None] & inside_columns[:, None, :, None]
    return jnp.where(inside, others, images)


def draw_mixup(key: Key[Array, ""], batch: int, alpha: float = 1.0) -> MixUp:
    """Draws MixUp for a batch: lambda ~ Beta(alpha, alpha), a permutation.

    Source: Zhang et al., arXiv 1710.09412; one lambda for the batch, as in their code.

    Args:
      key: random key.
      batch: images in the batch.
      alpha: both parameters of the Beta distribution, > 0; 1 is uniform.

    Returns:
      A `MixUp`.
    """
    key_permutation, key_kept = jax.random.split(key)
    return MixUp(jax.random.permutation(key_permutation, batch), _draw_kept(key_kept, alpha))


def mixup(
    images: Float[Array, "b h w c"], permutation: Int[Array, "b"], kept: Float[Array, ""] | float
) -> Float[Array, "b h w c"]:
    """Blends each image with its partner: `kept image + (1 - kept) partner`.

    Args:
      images: pixels or normalised images: the blend commutes with the normalisation.
      permutation: partner of each image.
      kept: lambda, the same for the whole batch.

    Returns:
      The mixed images.
    """
    return kept * images + (1 - kept) * images[permutation]


def _draw_kept(key: Key[Array, ""], alpha: float) -> Float[Array, ""]:
    if alpha == 1:  # Beta(1, 1) is uniform, and the sampler of Beta takes a second to compile
        return jax.random.uniform(key)
    return jax.random.beta(key, alpha, alpha)
