"""Crop, flip and roll: against hand-made resampling, and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax import target
from delt_jax.core.augment import geometry
from delt_jax.core.augment.geometry import Box, View


def make_view(top, left, height, width, flip=False, rolls=(0, 0)):
    box = Box(*(jnp.int32(value) for value in (top, left, height, width)))
    return View(box, jnp.bool_(flip), jnp.int32(rolls[0]), jnp.int32(rolls[1]))


def slow_crop_resize(image, top, left, height, width):
    """Crop, then bilinear resize to the old size, a pixel at a time."""
    size = image.shape[0]
    crop = image[top : top + height, left : left + width]

    def taps(output, length):
        source = max((output + 0.5) * length / size - 0.5, 0.0)
        low = min(int(source), length - 1)
        return low, min(low + 1, length - 1), source - low

    result = np.zeros_like(image)
    for y in range(size):
        y0, y1, fy = taps(y, height)
        for x in range(size):
            x0, x1, fx = taps(x, width)
            upper = crop[y0, x0] * (1 - fx) + crop[y0, x1] * fx
            lower = crop[y1, x0] * (1 - fx) + crop[y1, x1] * fx
            result[y, x] = upper * (1 - fy) + lower * fy
    return result


@pytest.fixture(params=["cpu", "gpu", "tpu"])
def platform(request):
    """The platforms that have forms of their own."""
    with target.made_for(request.param):
        yield


@pytest.mark.parametrize("box", [(0, 0, 8, 8), (2, 1, 5, 7), (7, 7, 1, 1), (0, 3, 8, 2)])
def test_crop_is_crop_then_bilinear_resize(x64, platform, box):
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    result = geometry.resample(jnp.asarray(images), make_view(*box))
    expected = np.stack([slow_crop_resize(image, *box) for image in images])
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_flip_comes_after_crop_and_roll_after_flip(x64, platform):
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 3))
    result = geometry.resample(jnp.asarray(images), make_view(1, 2, 6, 5, True, (3, 2)))
    expected = np.stack([slow_crop_resize(image, 1, 2, 6, 5) for image in images])
    expected = np.roll(expected[:, :, ::-1], (3, 2), axis=(1, 2))
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_whole_image_view_is_the_identity():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    np.testing.assert_array_equal(geometry.resample(images, make_view(0, 0, 8, 8)), images)


def test_per_image_views_equal_one_by_one(x64, platform):
    images = jnp.asarray(np.random.default_rng(2).normal(size=(4, 8, 8, 3)))
    keys = jax.random.split(jax.random.key(3), 4)
    views = jax.vmap(lambda key: geometry.random_view(key, 8, 0.08, jitter=3))(keys)
    together = geometry.resample(images, views)
    for index in range(4):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], views)
        alone = geometry.resample(images[index : index + 1], one)
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-12)


def test_jit_equals_eager():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))

    def view(key, images):
        return geometry.resample(images, geometry.random_view(key, 8, 0.3, jitter=2))

    key = jax.random.key(5)
    np.testing.assert_allclose(view(key, images), jax.jit(view)(key, images), atol=1e-6)


def test_random_boxes_fit_and_have_the_promised_distribution():
    draw = jax.jit(jax.vmap(lambda key: geometry.random_resized_crop_box(key, 32, 0.08)))
    box = jax.tree.map(np.asarray, draw(jax.random.split(jax.random.key(0), 20_000)))
    assert box.top.min() == 0 and box.left.min() == 0
    assert (box.top + box.height).max() == 32 and (box.left + box.width).max() == 32
    assert box.height.min() >= 1 and box.width.min() >= 1
    # torchvision 0.28, same arguments, 20,000 draws: mean share of the area .488, mean log ratio
    # .002, 15.3 % of the boxes at least 29 pixels high.
    assert np.mean(box.height * box.width) / 1024 == pytest.approx(0.488, abs=0.01)
    assert np.mean(box.height >= 29) == pytest.approx(0.153, abs=0.015)
    assert np.mean(np.log(box.width / box.height)) == pytest.approx(0.0, abs=0.01)


def test_min_scale_one_takes_the_whole_image_nearly_always():
    # Only a ratio that rounds to a square fits; otherwise ten tries fail and the fallback is taken.
    draw = jax.vmap(lambda key: geometry.random_resized_crop_box(key, 32, 1.0))
    box = draw(jax.random.split(jax.random.key(1), 500))
    assert np.all(np.asarray(box.height) == 32) and np.all(np.asarray(box.width) == 32)


def test_box_distribution_matches_torchvision(torchvision):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    get = torchvision.transforms.RandomResizedCrop.get_params
    theirs = np.array([get(image, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(8000)])
    keys = jax.random.split(jax.random.key(2), 8000)
    ours = jax.jit(jax.vmap(lambda key: geometry.random_resized_crop_box(key, 32, 0.3)))(keys)
    ours = np.stack(ours, axis=1)
    for column in range(4):  # Kolmogorov distance of each coordinate
        grid = np.arange(34)
        distance = np.abs(
            np.searchsorted(np.sort(ours[:, column]), grid) / 8000
            - np.searchsorted(np.sort(theirs[:, column]), grid) / 8000
        ).max()
        assert distance < 0.03


def test_images_must_be_square():
    with pytest.raises(ValueError, match="8 x 6"):
        geometry.resample(jnp.zeros((1, 8, 6, 3)), make_view(0, 0, 8, 8))
