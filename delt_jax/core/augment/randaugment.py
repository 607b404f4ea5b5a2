"""RandAugment on the device, as timm applies it: the draws and their application apart.

Source of the semantics: timm `data/auto_augment.py`, as VILA-Lab/DELT
`evaluation/validation/main.py` at f2f81ca uses it, with "rand-m6-n2-mstd1.0" and img_mean
(124, 116, 104): the fifteen operations whose strength does not always increase with the magnitude
(no `inc`), drawn with replacement, each applied with probability 1/2, magnitude ~ N(m, mstd)
clipped to [0, 10], and, as no interpolation is named, bilinear or bicubic at random for each
geometric operation.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int32, Key, UInt8

from delt_jax.core.augment import image_ops
from delt_jax.errors import InputError

# In timm's order (_RAND_TRANSFORMS), so that its recorded indices can be fed.
OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
GEOMETRIC = {
    name: place
    for place, name in enumerate(("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"))
}
PROBABILITY = 0.5  # timm: rand_augment_transform, prob
MAX_MAGNITUDE = 10  # timm: _LEVEL_DENOM
FILL = (124, 116, 104)  # DELT evaluation/validation/main.py, img_mean


class Draws(NamedTuple):
    """What is random about RandAugment: n operations for each of b images.

    Attributes:
      operation: index into `OPERATIONS`, int32 `[b, n]`.
      applied: whether it is applied at all, bool `[b, n]`.
      magnitude: its strength in [0, 10], float32 `[b, n]`.
      negated: whether a geometric operation goes the other way, bool `[b, n]`.
      cubic: whether a geometric operation samples bicubically, not bilinearly, bool `[b, n]`.
    """

    operation: Int32[Array, "*b"]
    applied: Bool[Array, "*b"]
    magnitude: Float32[Array, "*b"]
    negated: Bool[Array, "*b"]
    cubic: Bool[Array, "*b"]


def rand_augment(
    key: Key[Array, ""],
    images: UInt8[Array, "b h w 3"],
    magnitude: float,
    num_ops: int,
    magnitude_std: float = 1.0,
    fill: Sequence[int] = FILL,
) -> UInt8[Array, "b h w 3"]:
    """Applies timm's RandAugment to each image independently.

    NOTE(parity): timm takes only whole m, and an mstd above 100 means uniform in [0, m] to it; here
    any m in [0, 10] goes, and such an mstd is refused.

    Args:
      key: random key.
      images: uint8 RGB `[b, h, w, 3]`.
      magnitude: m, the mean strength of an operation, in [0, 10].
      num_ops: n, operations drawn for an image.
      magnitude_std: mstd, the standard deviation of the strength.
      fill: RGB colour in 0..255 of what geometric operations leave uncovered.

    Returns:
      The augmented images, uint8 `[b, h, w, 3]`.

    Raises:
      InputError: for images that are not uint8 RGB, and for options out of range.
    """
    if images.dtype != jnp.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(
            f"RandAugment: images of type {images.dtype} and shape {list(images.shape)},"
            " expected uint8 of shape [b, h, w, 3]"
        )
    for name, value, greatest in (
        ("magnitude", magnitude, MAX_MAGNITUDE),
        ("magnitude_std", magnitude_std, 100),
    ):
        if isinstance(value, int | float) and not 0 <= value <= greatest:
            raise InputError(f"RandAugment: {name} is {value}, expected 0 to {greatest}")
    if num_ops < 0:
        raise InputError(f"RandAugment: num_ops is {num_ops}, expected 0 or more")
    draws = draw(key, images.shape[0], num_ops, magnitude, magnitude_std)
    return apply_draws(images, draws, fill)


@functools.partial(jax.jit, static_argnames=("count", "num_ops"))
def draw(
    key: Key[Array, ""],
    count: int,
    num_ops: int,
    magnitude: Float[Array, ""] | float,
    magnitude_std: Float[Array, ""] | float = 1.0,
) -> Draws:
    """Draws what `apply_draws` needs; the same with and without 64-bit types.

    Args:
      key: random key.
      count: b, number of images.
      num_ops: n, operations for an image.
      magnitude: m, mean strength.
      magnitude_std: mstd, its standard deviation.

    Returns:
      `Draws` of shape `[count, num_ops]`.
    """
    keys = jax.random.split(key, 5)
    shape = (count, num_ops)
    half = np.float32(0.5)
    noise = jax.random.normal(keys[2], shape, jnp.float32)
    mean, std = jnp.asarray(magnitude, jnp.float32), jnp.asarray(magnitude_std, jnp.float32)
    return Draws(
        operation=jax.random.randint(keys[0], shape, 0, len(OPERATIONS), jnp.int32),
        applied=jax.random.bernoulli(keys[1], np.float32(PROBABILITY), shape),
        magnitude=jnp.clip(mean + std * noise, 0, MAX_MAGNITUDE),
        negated=jax.random.bernoulli(keys[3], half, shape),
        cubic=jax.random.bernoulli(keys[4], half, shape),
    )


@jax.jit
def apply_draws(
    images: UInt8[Array, "b h w 3"], draws: Draws, fill: Sequence[int] = FILL
) -> UInt8[Array, "b h w 3"]:
    """Applies to each image its operations in turn.

    Args:
      images: uint8 RGB `[b, h, w, 3]`.
      draws: arrays `[b, n]`.
      fill: RGB colour in 0..255 of what geometric operations leave uncovered.

    Returns:
      The augmented images, uint8 `[b, h, w, 3]`.
    """
    colour = jnp.asarray(fill, jnp.uint8)

    def augment(image: jax.Array, draws_of_image: Draws) -> jax.Array:
        def layer(image: jax.Array, one: Draws) -> tuple[jax.Array, None]:
            return apply_operation(image, one, colour), None

        return lax.scan(layer, image, draws_of_image)[0]

    # On a CPU one image after the other, so that only the operation drawn is computed (measured:
    # 30 to 90 times faster than all of them). Elsewhere all images at once, because branching image
    # by image would idle the device.
    return lax.platform_dependent(
        images,
        draws,
        cpu=lambda images, draws: lax.map(lambda pair: augment(*pair), (images, draws)),
        default=jax.vmap(augment),
    )


def apply_operation(
    image: UInt8[Array, "h w 3"], draws: Draws, fill: UInt8[Array, "3"]
) -> UInt8[Array, "h w 3"]:
    """Applies one operation to one image.

    Args:
      image: uint8 RGB.
      draws: of scalars.
      fill: colour of what a geometric operation leaves uncovered.

    Returns:
      The image after the operation, or as it was where `draws.applied` is false.
    """
    height, width, _ = image.shape
    level = draws.magnitude
    # timm: _enhance_level_to_arg, level / 10 * 1.8 + 0.1 in double precision. Written around the
    # level of no change, and with 0.18 in two parts of which the first has few bits, it is rounded
    # about once.
    factor = 1 + (level - 5) * (737 / 4096) + (level - 5) * (0.18 - 737 / 4096)

    def move(image: jax.Array) -> jax.Array:
        signed = jnp.where(draws.negated, -level, level)
        index = jnp.asarray([GEOMETRIC.get(name, 0) for name in OPERATIONS])[draws.operation]
        matrix = displacements(signed, height, width)[index]
        return image_ops.affine(image, matrix, draws.cubic, fill)

    photometric = {
        "AutoContrast": image_ops.autocontrast,
        "Equalize": image_ops.equalize,
        "Invert": image_ops.invert,
        "Posterize": lambda image: image_ops.posterize(image, _whole(level, 0.4)),
        "Solarize": lambda image: image_ops.solarize(image, _whole(level, 25.6)),
        "SolarizeAdd": lambda image: image_ops.solarize_add(image, _whole(level, 11)),
        "Color": lambda image: image_ops.color(image, factor),
        "Contrast": lambda image: image_ops.contrast(image, factor),
        "Brightness": lambda image: image_ops.brightness(image, factor),
        "Sharpness": lambda image: image_ops.sharpness(image, factor),
    }
    # The geometric operations share a branch, because under vmap every branch is computed.
    branches = [lambda image: image, move, *photometric.values()]
    branch_of = {name: 2 + place for place, name in enumerate(photometric)}
    branch = jnp.asarray([branch_of.get(name, 1) for name in OPERATIONS])[draws.operation]
    return lax.switch(jnp.where(draws.applied, branch, 0), branches, image)


def _whole(level: Float32[Array, ""], per_level: float) -> Int32[Array, ""]:
    """`level * per_level` truncated, as timm's `int(level / 10 * range)`."""
    return (level * np.float32(per_level)).astype(jnp.int32)


def displacements(
    level: Float[Array, ""], height: int, width: int
) -> Float[Array, "geometric 2 3"]:
    """The geometric operations as `image_ops.affine` takes them, in the order of `GEOMETRIC`.

    timm's ranges, reached at a level of 10: rotations to 30 degrees counterclockwise, shears to 0.3
    with the upper left corner fixed, translations to 0.45 of the side.

    Args:
      level: magnitude with its sign, in [-10, 10].
      height: rows of the image.
      width: columns of the image.

    Returns:
      For each operation a matrix `[2, 3]` of displacements in x and in y.
    """
    angle = level * (np.pi / 60)  # radians; 3 degrees a level
    sine = jnp.sin(angle)
    shrink = -2 * jnp.square(jnp.sin(angle / 2))  # cos(angle) - 1 without cancellation
    shear = level * 0.03
    shift = level * 0.045
    entries = {
        "Rotate": ((shrink, -sine, 0), (sine, shrink, 0)),
        "ShearX": ((0, shear, shear * (height / 2)), (0, 0, 0)),
        "ShearY": ((0, 0, 0), (shear, 0, shear * (width / 2))),
        "TranslateXRel": ((0, 0, shift * width), (0, 0, 0)),
        "TranslateYRel": ((0, 0, 0), (0, 0, shift * height)),
    }
    return jnp.asarray([entries[name] for name in GEOMETRIC], level.dtype)
