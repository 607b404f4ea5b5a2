"""What a network is shown while it trains: views of uint8 images, made on the device.

Source of the student's views: the transform of VILA-Lab/DELT `evaluation/validation/main.py` at
f2f81ca.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from delt_jax.core.augment.geometry import random_view, resample
from delt_jax.core.augment.mixing import MixUp, cutmix, draw_cutmix, draw_mixup, mixup
from delt_jax.core.augment.randaugment import rand_augment


class Statistics(NamedTuple):
    """Per-channel mean and standard deviation of an input in [0, 1], each `[c]`."""

    mean: Float[Array, "c"]
    std: Float[Array, "c"]

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> "Statistics":
        """From plain numbers, in jax's default float."""
        return cls(
            jnp.asarray(mean, jnp.result_type(float)), jnp.asarray(std, jnp.result_type(float))
        )


def normalise(pixels: Float[Array, "b h w c"], statistics: Statistics) -> Float[Array, "b h w c"]:
    """Pixels in [0, 1] to a network's input."""
    return (pixels - statistics.mean) / statistics.std


def as_pixels(images: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """uint8 to [0, 1], in jax's default float (float32; float64 under `jax_enable_x64`)."""
    return images.astype(jnp.result_type(float)) / 255


@dataclass(frozen=True)
class StudentViews:
    """How a student sees a training image; defaults are the paper's for CIFAR-10.

    Attributes:
      randaugment_magnitude: timm's m, 0..10.
      randaugment_ops: operations per image; 0 switches RandAugment off.
      randaugment_std: standard deviation of the magnitude.
      min_scale: smallest share of the area that the random resized crop keeps.
      flip_probability: of the horizontal flip.
      cutmix: alpha of CutMix's Beta(alpha, alpha); 0 switches CutMix off.
      mixup: alpha of MixUp's, which takes its place; 0 switches MixUp off.
    """

    randaugment_magnitude: float = 5
    randaugment_ops: int = 4
    randaugment_std: float = 1.0
    min_scale: float = 0.25
    flip_probability: float = 0.5
    cutmix: float = 1.0
    mixup: float = 0.0


def student_views(
    key: Key[Array, ""], images: UInt8[Array, "b h w 3"], views: StudentViews | None
) -> tuple[Float[Array, "b h w 3"], MixUp | None]:
    """RandAugment, random resized crop and flip per image, then CutMix or MixUp of the batch.

    Normalisation, which the published pipeline does before mixing, commutes with it, so teacher and
    student may each normalise the result with their own statistics.

    Args:
      key: random key.
      images: square images.
      views: the settings; None shows the images as they are.

    Returns:
      Mixed pixels in [0, 1]; with whom each image was mixed and its own share of the result, or
      None where nothing is mixed.
    """
    if views is None:
        return as_pixels(images), None
    key_randaugment, key_views, key_mix = jax.random.split(key, 3)
    batch, size, width, _ = images.shape
    if views.randaugment_ops:
        images = rand_augment(
            key_randaugment,
            images,
            views.randaugment_magnitude,
            views.randaugment_ops,
            views.randaugment_std,
        )
    view = jax.vmap(
        lambda key: random_view(key, size, views.min_scale, flip_probability=views.flip_probability)
    )(jax.random.split(key_views, batch))
    pixels = resample(as_pixels(images), view)
    if views.cutmix:
        draw = draw_cutmix(key_mix, batch, size, width, views.cutmix)
        return cutmix(pixels, draw.permutation, draw.patch), draw.pasted(size, width)
    if views.mixup:
        mix = draw_mixup(key_mix, batch, views.mixup)
        return mixup(pixels, *mix), mix
    return pixels, None


@dataclass(frozen=True)
class TeacherViews:
    """How a teacher sees a training image.

    Attributes:
      size: side of what the network sees in pixels.
      crop: "pad" (shifted by up to `pad` pixels, black moves in; for images of side `size`) or
        "resized" (a random resized crop; for images of any side).
      pad: largest shift on either axis.
      min_scale: smallest share of the area that a random resized crop keeps.
      flip_probability: of the horizontal flip.
      cutmix: alpha of CutMix's Beta(alpha, alpha).
      cutmix_probability: share of the batches that CutMix mixes; 0 switches it off.
    """

    size: int
    crop: str = "pad"
    pad: int = 4
    min_scale: float = 0.25
    flip_probability: float = 0.5
    cutmix: float = 1.0
    cutmix_probability: float = 0.0


def teacher_views(
    key: Key[Array, ""], images: UInt8[Array, "b h w 3"], views: TeacherViews
) -> tuple[Float[Array, "b s s 3"], MixUp | None]:
    """Crop and flip per image, then CutMix of the batch.

    Args:
      key: random key.
      images: square images.
      views: the settings.

    Returns:
      Mixed pixels in [0, 1]; with whom each image was mixed and its own share of the result (1
      where this batch was left alone), or None where CutMix is off.
    """
    if views.crop == "pad":
        shown = pad_crop_flip(key, images, views.pad, views.flip_probability)
        pixels = as_pixels(shown)
    else:
        keys = jax.random.split(key, len(images))
        view = jax.vmap(
            lambda key: random_view(
                key, images.shape[1], views.min_scale, flip_probability=views.flip_probability
            )
        )(keys)
        pixels = resample(as_pixels(images), view, views.size)
    if not views.cutmix_probability:
        return pixels, None
    key_draw, key_chance = jax.random.split(jax.random.fold_in(key, 1))
    size = views.size
    draw = draw_cutmix(key_draw, len(images), size, size, views.cutmix)
    mixed = jax.random.bernoulli(key_chance, views.cutmix_probability)
    patch = jax.tree.map(lambda edge: jnp.where(mixed, edge, 0), draw.patch)
    draw = draw._replace(patch=patch)
    return cutmix(pixels, draw.permutation, patch), draw.pasted(size, size)


def pad_crop_flip(
    key: Key[Array, ""],
    images: UInt8[Array, "b h w c"],
    padding: int,
    flip_probability: float = 0.5,
) -> UInt8[Array, "b h w c"]:
    """Shifts each image by up to `padding` pixels (black moves in) and flips it, or not.

    Args:
      key: random key.
      images: uint8.
      padding: largest shift on either axis.
      flip_probability: of the horizontal flip.

    Returns:
      Images of the same shape.
    """
    key_shift, key_flip = jax.random.split(key)
    batch, height, width, _ = images.shape
    shift = jax.random.randint(key_shift, (2, batch, 1), 0, 2 * padding + 1)
    flip = jax.random.bernoulli(key_flip, flip_probability, (batch, 1))
    columns = jnp.arange(width)
    rows = jnp.arange(height) + shift[0]  # [b, h] into the padded image
    columns = jnp.where(flip, columns[::-1], columns) + shift[1]  # [b, w]
    margin = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, margin)
    return padded[jnp.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]
