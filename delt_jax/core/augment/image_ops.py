"""Pillow's image operations on one uint8 image, with Pillow's integer arithmetic.

Every function takes and returns a uint8 RGB image `[h, w, 3]`, is pure, and can be jitted and
vmapped. The photometric operations equal Pillow's bit for bit.

NOTE(parity): `affine` samples where Pillow samples, but in float32 instead of double, so that a
value next to an integer may be truncated to its neighbour.

Source of the semantics: Pillow 13 `ImageOps.py`, `ImageEnhance.py`, `ImageFilter.py` and, of
libImaging, `Blend.c`, `Convert.c`, `Filter.c` and `Geometry.c`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8


def luma(image: UInt8[Array, "h w 3"]) -> Int32[Array, "h w"]:
    """The brightness of each pixel in 0..255, as `Image.convert("L")` rounds it (ITU-R 601)."""
    red, green, blue = (image[..., channel].astype(jnp.int32) for channel in range(3))
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def blend(
    degenerate: UInt8[Array, "h w 3"],
    image: UInt8[Array, "h w 3"],
    factor: Float[Array, ""] | float,
) -> UInt8[Array, "h w 3"]:
    """`degenerate + factor * (image - degenerate)`, clipped to 0..255 and truncated: `Image.blend`.

    Args:
      degenerate: what factor 0 gives.
      image: what factor 1 gives.
      factor: any number; beyond 1 it extrapolates.

    Returns:
      The blended image.
    """
    factor = jnp.asarray(factor, jnp.float32)
    start = degenerate.astype(jnp.float32)
    change = image.astype(jnp.float32) - start
    # Pillow rounds the product to float32 before it adds, and truncates the sum, so one more or
    # less rounding shows. Compilers fuse a product and a sum into one rounding; here the two halves
    # of the factor have so few bits that their products are exact, and fused or not, their sum is
    # the rounded product.
    coarse = lax.bitcast_convert_type(
        lax.bitcast_convert_type(factor, jnp.int32) & -(1 << 12), jnp.float32
    )
    product = coarse * change + (factor - coarse) * change
    return jnp.clip(start + product, 0, 255).astype(jnp.uint8)


def invert(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """The negative: `ImageOps.invert`."""
    return 255 - image


def posterize(image: UInt8[Array, "h w 3"], bits: Int[Array, ""] | int) -> UInt8[Array, "h w 3"]:
    """Keeps the `bits` (0 to 8) most significant bits of each value: `ImageOps.posterize`.

    Zero bits give a black image, as in older releases of Pillow; Pillow 13 refuses them.
    """
    mask = 255 & ~((1 << (8 - jnp.asarray(bits, jnp.int32))) - 1)
    return image & mask.astype(jnp.uint8)


def solarize(
    image: UInt8[Array, "h w 3"], threshold: Int[Array, ""] | int
) -> UInt8[Array, "h w 3"]:
    """Inverts the values from `threshold` (0 to 256) up: `ImageOps.solarize`."""
    return jnp.where(image.astype(jnp.int32) < threshold, image, 255 - image)


def solarize_add(
    image: UInt8[Array, "h w 3"], addend: Int[Array, ""] | int
) -> UInt8[Array, "h w 3"]:
    """Adds `addend` (0 to 128) to the values below 128: timm's `solarize_add`."""
    value = image.astype(jnp.int32)
    return jnp.where(value < 128, jnp.minimum(255, value + addend), value).astype(jnp.uint8)


def color(image: UInt8[Array, "h w 3"], factor: Float[Array, ""] | float) -> UInt8[Array, "h w 3"]:
    """From grey (factor 0) over the image (1) to more saturated: `ImageEnhance.Color`."""
    grey = luma(image).astype(jnp.uint8)
    return blend(jnp.broadcast_to(grey[..., None], image.shape), image, factor)


def contrast(
    image: UInt8[Array, "h w 3"], factor: Float[Array, ""] | float
) -> UInt8[Array, "h w 3"]:
    """From the mean brightness (factor 0) over the image (1) on: `ImageEnhance.Contrast`.

    The sum of the brightness is an int32: the image may have 2**31 / 510 = 4.2 million pixels.
    """
    pixels = image.shape[0] * image.shape[1]
    total = jnp.sum(luma(image), dtype=jnp.int32)
    mean = (2 * total + pixels) // (2 * pixels)  # rounded half up
    return blend(jnp.full_like(image, mean.astype(jnp.uint8)), image, factor)


def brightness(
    image: UInt8[Array, "h w 3"], factor: Float[Array, ""] | float
) -> UInt8[Array, "h w 3"]:
    """From black (factor 0) over the image (1) to brighter: `ImageEnhance.Brightness`."""
    return blend(jnp.zeros_like(image), image, factor)


def smooth(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """The 3 x 3 filter `ImageFilter.SMOOTH`; the outermost pixels stay as they are."""
    height, width, _ = image.shape
    if height < 3 or width < 3:
        return image
    value = image.astype(jnp.int32)
    inner = value[1:-1, 1:-1]
    rows = value[:-2] + value[1:-1] + value[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * inner  # the centre counts five times
    # Pillow adds up float32 and rounds. 13 is odd, so there are no ties and integers give the same.
    return image.at[1:-1, 1:-1].set(((2 * total + 13) // 26).astype(jnp.uint8))


def sharpness(
    image: UInt8[Array, "h w 3"], factor: Float[Array, ""] | float
) -> UInt8[Array, "h w 3"]:
    """From smoothed (factor 0) over the image (1) to sharpened: `ImageEnhance.Sharpness`."""
    return blend(smooth(image), image, factor)


def autocontrast(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """Stretches each channel linearly to 0..255: `ImageOps.autocontrast`.

    A channel of a single value stays as it is.
    """
    low = jnp.min(image, (0, 1)).astype(jnp.int32)[None]  # [1, 3]
    high = jnp.max(image, (0, 1)).astype(jnp.int32)[None]
    value = jnp.arange(256, dtype=jnp.int32)[:, None]  # [256, 1]
    stretched = 255 * (value - low) // jnp.maximum(high - low, 1)
    table = stretched - _truncated_by_pillow(low, high, value)
    return _look_up(jnp.where(high > low, jnp.clip(table, 0, 255), value), image)


@functools.cache
def _autocontrast_exceptions() -> np.ndarray:
    """Where Pillow's autocontrast is one less than exact arithmetic, as sorted keys.

    Pillow truncates `value * scale + offset` in double precision. Where the exact result is an
    integer, the rounding of scale and offset may leave it just short: in 12,094 of the 2.8 million
    possible (lowest, highest, value), 4,852 times for the highest value itself, which then becomes
    254.

    Returns:
      int32 `[12094]`, `(lowest * 256 + highest) * 256 + value`.
    """
    keys = []
    for lowest in range(255):
        highest, value = np.meshgrid(np.arange(lowest + 1, 256), np.arange(256), indexing="ij")
        scale = 255.0 / (highest - lowest)
        pillow = (value * scale + -lowest * scale).astype(np.int64)
        exact = 255 * (value - lowest) // (highest - lowest)
        differs = (pillow != exact) & (lowest <= value) & (value <= highest)
        keys.append((lowest << 16 | highest << 8 | value)[differs])
    return np.concatenate(keys).astype(np.int32)


def _truncated_by_pillow(
    low: Int32[Array, "1 3"], high: Int32[Array, "1 3"], value: Int32[Array, "256 1"]
) -> Int32[Array, "256 3"]:
    """1 where `_autocontrast_exceptions` has the combination, else 0."""
    exceptions = jnp.asarray(_autocontrast_exceptions())
    key = low << 16 | high << 8 | value
    place = jnp.minimum(jnp.searchsorted(exceptions, key), exceptions.size - 1)
    return (exceptions[place] == key).astype(jnp.int32)


def equalize(image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """Maps each channel through its cumulative histogram: `ImageOps.equalize`.

    A channel stays as it is where fewer than 255 of its pixels are below its highest value.
    """
    channels = jnp.arange(3, dtype=jnp.int32)[None]
    values = image.reshape(-1, 3).astype(jnp.int32)
    histogram = jnp.zeros((256, 3), jnp.int32).at[values, channels].add(1)
    highest = jnp.max(values, 0)[None]
    below_highest = values.shape[0] - jnp.take_along_axis(histogram, highest, 0)
    step = below_highest // 255
    before = jnp.cumsum(histogram, 0, dtype=jnp.int32) - histogram
    table = jnp.minimum(255, (step // 2 + before) // jnp.maximum(step, 1))
    identity = jnp.arange(256, dtype=jnp.int32)[:, None]
    return _look_up(jnp.where(step > 0, table, identity), image)


def _look_up(table: Int32[Array, "256 3"], image: UInt8[Array, "h w 3"]) -> UInt8[Array, "h w 3"]:
    """Replaces each value v of channel c by `table[v, c]`, which must be in 0..255."""
    index = image.reshape(-1, 3).astype(jnp.int32)
    return jnp.take_along_axis(table.astype(jnp.uint8), index, 0).reshape(image.shape)


def affine(
    image: UInt8[Array, "h w 3"],
    displacement: Float[Array, "2 3"],
    cubic: Bool[Array, ""] | bool,
    fill: UInt8[Array, "3"],
) -> UInt8[Array, "h w 3"]:
    """Moves the image by an affine map: `Image.transform` with `AFFINE` about the centre.

    Pixel (x, y) of the result is sampled at the point (x, y) + `displacement` (x', y', 1), where
    (x', y') is the centre of the pixel as seen from the centre of the image. Displacements instead
    of Pillow's whole coordinates keep the fractions, which weigh the pixels, precise in float32.

    Args:
      image: the image.
      displacement: pixels; its rows give the displacement in x and in y.
      cubic: bicubic (a = -1) rather than bilinear interpolation; edges are repeated for either.
      fill: colour of what comes from outside of the image.

    Returns:
      The image moved, of the same size.
    """
    height, width, _ = image.shape
    displacement = displacement.astype(jnp.float32)
    x = jnp.arange(width, dtype=jnp.float32)[None, :]
    y = jnp.arange(height, dtype=jnp.float32)[:, None]
    from_centre = (x + (0.5 - width / 2), y + (0.5 - height / 2))
    move_x, move_y = (
        row[0] * from_centre[0] + row[1] * from_centre[1] + row[2] for row in displacement
    )  # [h, w] each

    # Compared without adding, so that no rounding moves a point across the border.
    inside = (move_x >= -(x + 0.5)) & (move_x < width - (x + 0.5))
    inside &= (move_y >= -(y + 0.5)) & (move_y < height - (y + 0.5))

    whole_x, whole_y = jnp.floor(move_x), jnp.floor(move_y)
    part_x, part_y = (move_x - whole_x)[..., None], (move_y - whole_y)[..., None]
    left = x.astype(jnp.int32) + whole_x.astype(jnp.int32)
    top = y.astype(jnp.int32) + whole_y.astype(jnp.int32)

    def interpolate(first: int, last: int, mix) -> Float[Array, "h w 3"]:
        """Mixes the pixels from `first` to `last`, counted from (left, top), in x and then in y."""
        columns = [jnp.clip(left + k, 0, width - 1) for k in range(first, last + 1)]
        rows = [jnp.clip(top + k, 0, height - 1) for k in range(first, last + 1)]
        return mix(
            [
                mix([image[row, column].astype(jnp.float32) for column in columns], part_x)
                for row in rows
            ],
            part_y,
        )

    value = lax.cond(
        cubic,
        lambda: interpolate(-1, 2, _cubic_mix),
        lambda: interpolate(0, 1, _linear_mix),
    )
    moved = jnp.clip(value, 0, 255).astype(jnp.uint8)
    return jnp.where(inside[..., None], moved, fill[None, None])


def _linear_mix(values: list[jax.Array], part: jax.Array) -> jax.Array:
    """Between two values, `part` of the way."""
    first, second = values
    return first + (second - first) * part


def _cubic_mix(values: list[jax.Array], part: jax.Array) -> jax.Array:
    """Between the inner two of four values, `part` of the way, on the cubic with a = -1."""
    before, first, second, after = values
    square = 2 * (before - first) + second - after
    cube = -before + first - second + after
    return first + part * ((second - before) + part * (square + part * cube))
