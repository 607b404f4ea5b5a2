"""RandAugment: its draws, their application, and the strength of each operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from PIL import Image, ImageEnhance, ImageOps

from delt_jax.core.augment.randaugment import (
    FILL,
    GEOMETRIC,
    OPERATIONS,
    Draws,
    apply_draws,
    apply_operation,
    displacements,
    draw,
    rand_augment,
)
from delt_jax.errors import InputError


def random_images(count: int, size: int = 20) -> jax.Array:
    """Noise of low frequency and of little contrast, so that every operation changes something."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(20, 230, (count, size // 4, size // 4, 3))
    fine = generator.integers(-15, 16, (count, size, size, 3))
    return jnp.asarray(coarse.repeat(4, 1).repeat(4, 2) + fine, jnp.uint8)


@jax.jit
def apply_one(image, name_index, magnitude, negated):
    """One operation, certainly applied, bilinear."""
    draws = Draws(
        operation=name_index,
        applied=jnp.asarray(True),
        magnitude=magnitude,
        negated=negated,
        cubic=jnp.asarray(False),
    )
    return apply_operation(image, draws, jnp.asarray(FILL, jnp.uint8))


def applied(name: str, image: jax.Array, magnitude: float, negated: bool = False) -> np.ndarray:
    index = jnp.asarray(OPERATIONS.index(name), jnp.int32)
    return np.asarray(apply_one(image, index, jnp.float32(magnitude), jnp.asarray(negated)))


def pillow_photometric(name: str, image: Image.Image, magnitude: float) -> Image.Image:
    """The operation with the strength that timm gives it (auto_augment.py, LEVEL_TO_ARG)."""
    factor = magnitude / 10 * 1.8 + 0.1
    addend = int(magnitude / 10 * 110)
    return {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
        "Posterize": lambda: ImageOps.posterize(image, int(magnitude / 10 * 4)),
        "Solarize": lambda: ImageOps.solarize(image, min(256, int(magnitude / 10 * 256))),
        "SolarizeAdd": lambda: image.point(
            [min(255, v + addend) if v < 128 else v for v in range(256)] * 3
        ),
        "Color": lambda: ImageEnhance.Color(image).enhance(factor),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
    }[name]()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in GEOMETRIC])
def test_photometric_operation_equals_pillow(name):
    # From 2.5 on, because Pillow refuses to posterize to no bits. Exact at these magnitudes; at
    # others the float32 factor of an enhancement may differ from timm's double by a rounding, and a
    # value by one.
    for magnitude in np.arange(2.5, 10.25, 0.5):
        for image in random_images(2):
            picture = Image.fromarray(np.asarray(image))
            expected = np.asarray(pillow_photometric(name, picture, float(magnitude)))
            result = applied(name, image, magnitude)
            np.testing.assert_array_equal(result, expected, err_msg=f"{name} {magnitude}")


def test_posterize_of_little_magnitude_is_black():
    image = random_images(1)[0]
    greatest = [applied("Posterize", image, magnitude).max() for magnitude in (0, 2.4, 2.5)]
    assert greatest == [0, 0, 128]


@pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
def test_magnitude_five_does_not_enhance(name):
    image = random_images(1)[0]
    np.testing.assert_array_equal(applied(name, image, 5), image)


def test_displacements_literal():
    rotate, shear_x, shear_y, translate_x, translate_y = displacements(jnp.float32(10), 20, 40)
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    np.testing.assert_allclose(rotate, [[cosine - 1, -sine, 0], [sine, cosine - 1, 0]], rtol=1e-6)
    np.testing.assert_allclose(shear_x, [[0, 0.3, 3], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(shear_y, [[0, 0, 0], [0.3, 0, 6]], rtol=1e-6)
    np.testing.assert_allclose(translate_x, [[0, 0, 18], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(translate_y, [[0, 0, 0], [0, 0, 9]], rtol=1e-6)


def test_negated_translation_goes_the_other_way():
    image = random_images(1)[0]
    magnitude = 10 * 2 / 9  # 2 of 20 pixels
    forth = applied("TranslateXRel", image, magnitude).astype(int)
    back = applied("TranslateXRel", image, magnitude, negated=True).astype(int)
    # Two pixels are not exact in float32, so a value may be truncated to its neighbour.
    np.testing.assert_allclose(forth[:, :18], image[:, 2:].astype(int), atol=1)
    np.testing.assert_allclose(back[:, 2:], image[:, :18].astype(int), atol=1)
    assert (forth[:, 18:] == FILL).all()
    assert (back[:, :2] == FILL).all()


def test_operations_are_applied_in_order():
    images = jnp.repeat(random_images(1), 2, 0)
    solarize, invert = OPERATIONS.index("Solarize"), OPERATIONS.index("Invert")
    draws = Draws(
        operation=jnp.asarray([[solarize, invert], [invert, solarize]], jnp.int32),
        applied=jnp.ones((2, 2), bool),
        magnitude=jnp.full((2, 2), 2, jnp.float32),
        negated=jnp.zeros((2, 2), bool),
        cubic=jnp.zeros((2, 2), bool),
    )
    in_order, reverse = np.asarray(apply_draws(images, draws))
    value = np.asarray(images[0])
    np.testing.assert_array_equal(in_order, 255 - np.where(value < 51, value, 255 - value))
    np.testing.assert_array_equal(reverse, np.where(255 - value < 51, 255 - value, value))


def test_operations_not_applied_leave_the_image():
    images = random_images(20)
    draws = draw(jax.random.key(0), 20, 3, 9.0)
    draws = draws._replace(applied=jnp.zeros((20, 3), bool))
    np.testing.assert_array_equal(apply_draws(images, draws), images)


def test_images_are_independent():
    images = random_images(20)
    draws = draw(jax.random.key(1), 20, 3, 6.0)
    order = np.random.default_rng(1).permutation(20)
    straight = apply_draws(images, draws)
    permuted = apply_draws(images[order], jax.tree.map(lambda values: values[order], draws))
    np.testing.assert_array_equal(permuted, straight[order])
    others = apply_draws(images.at[1:].set(0), draws)
    np.testing.assert_array_equal(others[0], straight[0])


def test_all_at_once_equals_one_by_one():
    """What an accelerator runs (vmap: every branch, then a selection) against what a CPU runs."""
    count = 60
    images = random_images(count)
    draws = draw(jax.random.key(2), count, 1, 6.0)
    draws = draws._replace(operation=jnp.arange(count, dtype=jnp.int32)[:, None] % 15)
    fill = jnp.asarray(FILL, jnp.uint8)
    first = jax.tree.map(lambda values: values[:, 0], draws)
    at_once = jax.jit(jax.vmap(lambda image, one: apply_operation(image, one, fill)))(images, first)
    one_by_one = apply_draws(images, draws)
    photometric = ~np.isin(first.operation, [OPERATIONS.index(name) for name in GEOMETRIC])
    np.testing.assert_array_equal(at_once[photometric], one_by_one[photometric])
    # Compiled differently, a product and a sum are rounded once or twice.
    difference = at_once.astype(jnp.int32) - one_by_one.astype(jnp.int32)
    assert abs(difference).max() <= 1
    assert (difference != 0).mean() < 1e-3


def test_only_a_cpu_branches_on_what_is_drawn():
    arguments = random_images(4), draw(jax.random.key(0), 4, 2, 6.0)
    branches = {
        platform: export.export(apply_draws, platforms=[platform])(*arguments)
        .mlir_module()
        .count("stablehlo.case")
        for platform in ("cpu", "cuda", "tpu")
    }
    # Those that remain choose by the platform, which the compiler knows.
    assert branches["cuda"] == branches["tpu"] == branches["cpu"] - 2


def test_compiled_equals_eager():
    images, key = random_images(20), jax.random.key(3)
    compiled = jax.jit(rand_augment, static_argnames="num_ops")
    np.testing.assert_array_equal(
        compiled(key, images, 4.0, num_ops=3), rand_augment(key, images, 4.0, 3)
    )


def test_vmap():
    images = random_images(40).reshape(2, 20, 20, 20, 3)
    keys = jax.random.split(jax.random.key(4), 2)
    mapped = jax.vmap(lambda key, images: rand_augment(key, images, 5.0, 3))(keys, images)
    looped = jnp.stack([rand_augment(key, images, 5.0, 3) for key, images in zip(keys, images)])
    assert abs(mapped.astype(jnp.int32) - looped.astype(jnp.int32)).max() <= 1


def test_deterministic_for_a_key():
    images = random_images(20)
    first = rand_augment(jax.random.key(5), images, 5.0, 3)
    np.testing.assert_array_equal(first, rand_augment(jax.random.key(5), images, 5.0, 3))
    assert (first != rand_augment(jax.random.key(6), images, 5.0, 3)).any()
    assert first.dtype == jnp.uint8
    assert first.shape == images.shape


def test_same_with_64_bit_types():
    images = random_images(20)
    narrow = rand_augment(jax.random.key(7), images, 5.0, 3)
    with jax.enable_x64(True):
        wide = rand_augment(jax.random.key(7), images, 5.0, 3)
        draws = draw(jax.random.key(7), 20, 3, 5.0)
    np.testing.assert_array_equal(narrow, wide)
    assert [values.dtype.name for values in draws] == ["int32", "bool", "float32", "bool", "bool"]


def test_no_operations_is_the_identity():
    images = random_images(2)
    np.testing.assert_array_equal(rand_augment(jax.random.key(0), images, 5.0, 0), images)


def test_fill():
    images = jnp.zeros((60, 20, 20, 3), jnp.uint8)
    colours = rand_augment(jax.random.key(8), images, 9.0, 1, fill=(1, 2, 3)).reshape(-1, 3)
    assert {(0, 0, 0), (1, 2, 3)} <= set(map(tuple, colours.tolist()))


# The draws, of 30,000 operations; bounds are five standard deviations.


@pytest.fixture(scope="module")
def many_draws() -> Draws:
    return jax.tree.map(np.asarray, draw(jax.random.key(9), 10_000, 3, 6.0, 1.0))


def test_operations_are_uniform_and_drawn_with_replacement(many_draws):
    share = np.bincount(many_draws.operation.ravel(), minlength=15) / 30_000
    assert share.shape == (15,)
    np.testing.assert_allclose(share, 1 / 15, atol=5 * np.sqrt(1 / 15 * 14 / 15 / 30_000))
    repeated = (many_draws.operation[:, 0] == many_draws.operation[:, 1]).mean()
    np.testing.assert_allclose(repeated, 1 / 15, atol=5 * np.sqrt(1 / 15 * 14 / 15 / 10_000))


@pytest.mark.parametrize("name", ["applied", "negated", "cubic"])
def test_flags_are_fair(many_draws, name):
    flag = getattr(many_draws, name)
    np.testing.assert_allclose(flag.mean(), 0.5, atol=5 * 0.5 / np.sqrt(30_000))
    np.testing.assert_allclose((flag[:, 0] == flag[:, 1]).mean(), 0.5, atol=5 * 0.5 / 100)


def test_flags_are_independent(many_draws):
    for one, other in (("applied", "negated"), ("applied", "cubic"), ("negated", "cubic")):
        agree = getattr(many_draws, one) == getattr(many_draws, other)
        np.testing.assert_allclose(agree.mean(), 0.5, atol=5 * 0.5 / np.sqrt(30_000))


def test_magnitudes_are_normal(many_draws):
    np.testing.assert_allclose(many_draws.magnitude.mean(), 6, atol=5 / np.sqrt(30_000))
    np.testing.assert_allclose(many_draws.magnitude.std(), 1, atol=5 / np.sqrt(60_000))
    within = (abs(many_draws.magnitude - 6) < 1).mean()
    np.testing.assert_allclose(within, 0.6827, atol=5 * np.sqrt(0.6827 * 0.3173 / 30_000))


@pytest.mark.parametrize(("magnitude", "bound"), [(10.0, 10.0), (0.0, 0.0)])
def test_magnitudes_are_clipped(magnitude, bound):
    drawn = draw(jax.random.key(10), 10_000, 1, magnitude, 1.0).magnitude
    assert drawn.min() >= 0
    assert drawn.max() <= 10
    np.testing.assert_allclose((drawn == bound).mean(), 0.5, atol=5 * 0.5 / 100)


def test_magnitudes_without_noise():
    assert (draw(jax.random.key(11), 100, 2, 7.0, 0.0).magnitude == 7).all()


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (jnp.zeros((2, 8, 8, 3)), {}, r"images of type float32 .*expected uint8"),
        (jnp.zeros((2, 8, 8, 1), jnp.uint8), {}, r"shape \[2, 8, 8, 1\], expected"),
        (jnp.zeros((8, 8, 3), jnp.uint8), {}, r"shape \[8, 8, 3\], expected"),
        (random_images(1), {"magnitude": 11}, "magnitude is 11, expected 0 to 10"),
        (random_images(1), {"magnitude_std": -1.0}, "magnitude_std is -1.0, expected 0 to 100"),
        (random_images(1), {"num_ops": -1}, "num_ops is -1, expected 0 or more"),
    ],
    ids=["type", "channels", "rank", "magnitude", "std", "num_ops"],
)
def test_wrong_input(images, options, message):
    with pytest.raises(InputError, match=message):
        rand_augment(jax.random.key(0), images, **{"magnitude": 5, "num_ops": 2, **options})
