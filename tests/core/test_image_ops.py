"""Image operations against Pillow, pixel by pixel, and against literal values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from delt_jax.core.augment import image_ops
from delt_jax.core.augment.randaugment import GEOMETRIC, displacements

HEIGHT, WIDTH = 24, 31
FILL = (124, 116, 104)
FACTORS = (0.0, 0.1, 0.28, 0.46, 0.5, 0.64, 0.7312, 0.82, 1.0, 1.18, 1.2345, 1.36, 1.54, 1.72, 1.9)


def example_images() -> dict[str, np.ndarray]:
    """Random and structured images, uint8 `[HEIGHT, WIDTH, 3]`."""
    generator = np.random.default_rng(0)
    shape = (HEIGHT, WIDTH, 3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ramp = np.stack([x * 8, y * 10, 255 - x * 4 - y * 5], -1)
    low_contrast = generator.integers((60, 3, 101), (90, 250, 104), shape)
    two_values = np.where(generator.random(shape) < 0.1, 17, 200)
    one_bright = np.full(shape, 40)
    one_bright[5, 7] = (41, 255, 40)
    dark = np.minimum(255, generator.exponential(12, shape))
    return {
        "random": generator.integers(0, 256, shape).astype(np.uint8),
        "ramp": ramp.astype(np.uint8),
        "low contrast": low_contrast.astype(np.uint8),
        "two values": two_values.astype(np.uint8),
        "one bright pixel": one_bright.astype(np.uint8),
        "dark": dark.astype(np.uint8),
        "checkerboard": np.broadcast_to(((x + y) % 2 * 255)[..., None], shape).astype(np.uint8),
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "one colour": np.broadcast_to(np.asarray([9, 128, 201], np.uint8), shape),
    }


IMAGES = example_images()


@pytest.fixture(params=IMAGES, ids=lambda name: name.replace(" ", "_"))
def image(request) -> np.ndarray:
    return IMAGES[request.param]


def assert_equals_pillow(operation, image: np.ndarray, pillow, *arguments) -> None:
    """Bit for bit, compiled."""
    expected = np.asarray(pillow(Image.fromarray(image), *arguments))
    result = jax.jit(operation)(image, *arguments)
    assert result.dtype == jnp.uint8
    np.testing.assert_array_equal(result, expected)


def test_luma(image):
    np.testing.assert_array_equal(
        image_ops.luma(jnp.asarray(image)), np.asarray(Image.fromarray(image).convert("L"))
    )


def test_autocontrast(image):
    assert_equals_pillow(image_ops.autocontrast, image, ImageOps.autocontrast)


def test_equalize(image):
    assert_equals_pillow(image_ops.equalize, image, ImageOps.equalize)


def test_invert(image):
    assert_equals_pillow(image_ops.invert, image, ImageOps.invert)


def test_smooth(image):
    assert_equals_pillow(image_ops.smooth, image, lambda image: image.filter(ImageFilter.SMOOTH))


def test_posterize(image):
    for bits in range(1, 9):
        assert_equals_pillow(image_ops.posterize, image, ImageOps.posterize, bits)


def test_solarize(image):
    for threshold in (0, 1, 77, 128, 255, 256):
        assert_equals_pillow(image_ops.solarize, image, ImageOps.solarize, threshold)


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_enhance(image, name):
    def pillow(image, factor):
        return getattr(ImageEnhance, name)(image).enhance(factor)

    for factor in FACTORS:
        assert_equals_pillow(getattr(image_ops, name.lower()), image, pillow, factor)


def test_blend_rounds_as_pillow_for_any_factor():
    start, end = np.mgrid[:256, :256].astype(np.uint8)
    start, end = (np.repeat(values[..., None], 3, -1) for values in (start, end))
    blend = jax.jit(image_ops.blend)
    for factor in np.random.default_rng(1).uniform(-0.5, 2.5, 100):
        expected = Image.blend(Image.fromarray(start), Image.fromarray(end), factor)
        np.testing.assert_array_equal(blend(start, end, factor), np.asarray(expected))


def test_autocontrast_truncates_as_pillow_for_any_range():
    generator = np.random.default_rng(2)
    autocontrast = jax.jit(image_ops.autocontrast)
    for _ in range(200):
        low, high = np.sort([generator.choice(256, 2, replace=False) for _ in range(3)], -1).T
        image = np.clip(np.arange(256)[:, None], low, high).reshape(16, 16, 3).astype(np.uint8)
        expected = ImageOps.autocontrast(Image.fromarray(image))
        np.testing.assert_array_equal(autocontrast(image), np.asarray(expected))


def test_autocontrast_literal():
    image = jnp.asarray([[[5, 7, 1], [10, 7, 238]]], jnp.uint8)
    # Pillow: int(238 * (255 / 237) - 1 * (255 / 237)) = int(254.99999999999997)
    assert image_ops.autocontrast(image).tolist() == [[[0, 7, 0], [255, 7, 254]]]


def test_equalize_literal():
    image = jnp.broadcast_to(jnp.arange(2, dtype=jnp.uint8)[None, :, None] * 50, (255, 2, 3))
    assert jnp.unique(image_ops.equalize(image)).tolist() == [0, 255]


def test_equalize_leaves_small_images_alone():
    image = jnp.asarray(IMAGES["random"][:10, :10])  # fewer than 255 pixels
    np.testing.assert_array_equal(image_ops.equalize(image), image)


def test_posterize_to_no_bits_is_black():
    assert not image_ops.posterize(jnp.full((2, 2, 3), 255, jnp.uint8), 0).any()


def test_solarize_add_literal():
    image = jnp.asarray([[[0, 100, 127], [128, 200, 255]]], jnp.uint8)
    expected = [[[110, 210, 237], [128, 200, 255]]]
    assert image_ops.solarize_add(image, 110).tolist() == expected
    assert image_ops.solarize_add(image, 128)[0, 0].tolist() == [128, 228, 255]


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5, 3), (5, 2, 3)])
def test_smooth_leaves_images_without_inner_pixels(shape):
    image = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    assert_equals_pillow(image_ops.smooth, image, lambda image: image.filter(ImageFilter.SMOOTH))


def test_sharpen_literal():
    image = jnp.zeros((3, 3, 3), jnp.uint8).at[1, 1].set(130)  # smoothed: 130 * 5 / 13 = 50
    assert image_ops.sharpness(image, 0)[1, 1].tolist() == [50, 50, 50]
    assert image_ops.sharpness(image, 1.5)[1, 1].tolist() == [170, 170, 170]


# Geometry. Pillow computes in double precision and truncates, we in float32: a value next to an
# integer may come out one less or more. In a translated image of two values, all values at their
# boundary are the same, and if that is next to an integer (here within 1e-4), they all may.


def pillow_affine(image: np.ndarray, name: str, level: float, cubic: bool) -> np.ndarray:
    """What timm asks of Pillow for a signed level."""
    height, width, _ = image.shape
    options = {
        "resample": Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR,
        "fillcolor": FILL,
    }
    picture = Image.fromarray(image)
    if name == "Rotate":
        return np.asarray(picture.rotate(level / 10 * 30, **options))
    coefficients = {
        "ShearX": (1, level / 10 * 0.3, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, level / 10 * 0.3, 1, 0),
        "TranslateXRel": (1, 0, level / 10 * 0.45 * width, 0, 1, 0),
        "TranslateYRel": (1, 0, 0, 0, 1, level / 10 * 0.45 * height),
    }[name]
    return np.asarray(
        picture.transform(picture.size, Image.Transform.AFFINE, coefficients, **options)
    )


@jax.jit
def moved(image, place, level, cubic):
    matrix = displacements(level, *image.shape[:2])[place]
    return image_ops.affine(image, matrix, cubic, jnp.asarray(FILL, jnp.uint8))


@pytest.mark.parametrize("cubic", [False, True], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_affine(name, cubic):
    levels = np.random.default_rng(4).uniform(-10, 10, 12).astype(np.float32)
    differences = np.concatenate(
        [
            moved(image, GEOMETRIC[name], level, cubic).astype(jnp.int32)
            - pillow_affine(image, name, float(level), cubic)
            for image in IMAGES.values()
            for level in levels
        ]
    )
    assert abs(differences).max() <= 1
    assert (differences != 0).mean() < 2e-3


@pytest.mark.parametrize("name", GEOMETRIC)
def test_affine_of_no_strength_is_the_identity(image, name):
    for cubic in (False, True):
        result = moved(image, GEOMETRIC[name], jnp.float32(0), cubic)
        np.testing.assert_array_equal(result, image)


def test_affine_at_a_size_of_imagenet():
    image = np.random.default_rng(5).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    for name, level, cubic in (("Rotate", -7.3, True), ("ShearY", 6.1, False)):
        result = moved(image, GEOMETRIC[name], jnp.float32(level), cubic).astype(jnp.int32)
        difference = result - pillow_affine(image, name, float(np.float32(level)), cubic)
        assert abs(difference).max() <= 1
        assert (difference != 0).mean() < 1e-3


def test_translation_literal():
    image = jnp.asarray([[[10] * 3, [20] * 3, [40] * 3, [80] * 3]], jnp.uint8)
    fill = jnp.zeros(3, jnp.uint8)

    def shifted(pixels, cubic):
        matrix = jnp.zeros((2, 3)).at[0, 2].set(pixels)
        return image_ops.affine(image, matrix, cubic, fill)[0, :, 0].tolist()

    assert shifted(1.0, False) == [20, 40, 80, 0]
    assert shifted(0.25, False) == [12, 25, 50, 80]  # 12.5 truncated; the edge is repeated
    assert shifted(-0.5, False) == [10, 15, 30, 60]  # half of the first pixel is still inside
    assert shifted(-0.75, False) == [0, 12, 25, 50]
    # half way between two pixels: (-before + 5 first + 5 second - after) / 8
    assert shifted(0.5, True) == [12, 26, 62, 0]


def test_rotation_is_counterclockwise():
    # One degree moves a point on the right of the centre up.
    y, _ = np.mgrid[:41, :41]
    image = np.repeat(y[..., None] * 6, 3, -1).astype(np.uint8)
    result = moved(image, GEOMETRIC["Rotate"], jnp.float32(1), False)
    assert result[20, 35, 0] > image[20, 35, 0] > image[20, 5, 0] - 1 > result[20, 5, 0] - 1
    assert math.isclose(float(displacements(jnp.float32(10), 4, 4)[0, 1, 0]), 0.5, rel_tol=1e-6)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert", "smooth"])
def test_compiled_equals_eager(image, name):
    operation = getattr(image_ops, name)
    np.testing.assert_array_equal(jax.jit(operation)(image), operation(jnp.asarray(image)))


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_compiled_equals_eager_with_a_factor(image, name):
    operation = getattr(image_ops, name)
    np.testing.assert_array_equal(
        jax.jit(operation)(image, 1.3), operation(jnp.asarray(image), 1.3)
    )


@pytest.mark.usefixtures("x64")
def test_same_with_64_bit_types(image):
    assert_equals_pillow(image_ops.autocontrast, image, ImageOps.autocontrast)
    assert_equals_pillow(image_ops.equalize, image, ImageOps.equalize)
    assert_equals_pillow(
        image_ops.contrast, image, lambda image, x: ImageEnhance.Contrast(image).enhance(x), 1.3
    )
    assert moved(image, 0, jnp.float32(3), True).dtype == jnp.uint8
