"""CutMix: the patch, the paste, the draw; MixUp: the blend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.core.augment.mixing import (
    CutMix,
    Patch,
    cutmix,
    cutmix_patch,
    draw_cutmix,
    draw_mixup,
    mixup,
)


@pytest.mark.parametrize(
    ("kept", "centre", "expected"),
    [
        # The first draw of goldens/kd_conv3_student.npz: a side of 20 about (26, 10), clipped.
        (0.6032338800745678, (26, 10), (16, 0, 32, 20)),
        (1.0, (5, 5), (5, 5, 5, 5)),  # keeps everything
        (0.0, (16, 16), (0, 0, 32, 32)),  # keeps nothing
        (1 - (9.5 / 32) ** 2, (16, 16), (12, 12, 20, 20)),  # a side of 9 loses a pixel
    ],
)
def test_patch_literals(x64, kept, centre, expected):
    assert tuple(map(int, cutmix_patch(kept, *centre, 32, 32))) == expected


def test_patch_of_an_oblong_image_follows_each_axis(x64):
    patch = cutmix_patch(0.75, 4, 8, 8, 16)  # half of each side
    assert tuple(map(int, patch)) == (2, 4, 6, 12)


def test_paste_takes_the_partners_pixels_and_leaves_the_rest():
    images = np.arange(3 * 4 * 6 * 2, dtype=np.float32).reshape(3, 4, 6, 2)
    permutation = np.array([2, 0, 1])
    expected = images.copy()
    expected[:, 1:3, 2:6] = images[permutation][:, 1:3, 2:6]
    mixed = cutmix(
        jnp.asarray(images), jnp.asarray(permutation), Patch(*map(jnp.asarray, (1, 2, 3, 6)))
    )
    np.testing.assert_array_equal(mixed, expected)


def test_paste_commutes_with_what_is_done_pixel_by_pixel():
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
    permutation, patch = np.array([3, 0, 2, 1]), Patch(*map(jnp.asarray, (1, 0, 5, 6)))
    np.testing.assert_array_equal(
        cutmix(jnp.asarray((images - 0.5) / 0.25), permutation, patch),
        (np.asarray(cutmix(jnp.asarray(images), permutation, patch)) - 0.5) / 0.25,
    )


def test_draws():
    keys = jax.random.split(jax.random.key(3), 2000)
    draws = jax.jit(jax.vmap(lambda key: draw_cutmix(key, 5, 32, 32)))(keys)
    kept = np.asarray(draws.kept)
    # Beta(1, 1) is uniform: mean 1/2, variance 1/12.
    assert abs(kept.mean() - 0.5) < 0.02
    assert abs(kept.var() - 1 / 12) < 0.01
    np.testing.assert_array_equal(
        np.sort(draws.permutation, axis=1), np.tile(np.arange(5), (2000, 1))
    )
    top, left, bottom, right = map(np.asarray, draws.patch)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= 32).all()
    assert (right <= 32).all()
    # A patch that touches no border has the full size that lambda asks for.
    free = (top > 0) & (bottom < 32)
    np.testing.assert_array_equal(
        (bottom - top)[free], (32 * np.sqrt(1 - kept)).astype(int)[free] // 2 * 2
    )


def test_a_large_alpha_keeps_about_half():
    draw = jax.jit(lambda key: draw_cutmix(key, 2, 8, 8, 50.0).kept)
    kept = [float(draw(jax.random.key(seed))) for seed in range(20)]
    assert 0.01 < np.std(kept) < 0.1  # Beta(50, 50) has a deviation of .05, the uniform one .29
    assert abs(np.mean(kept) - 0.5) < 0.05


def test_jit_equals_eager():
    eager = draw_cutmix(jax.random.key(5), 6, 16, 16)
    jitted = jax.jit(lambda key: draw_cutmix(key, 6, 16, 16))(jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, eager, jitted)


def test_share_of_a_clipped_patch_is_what_the_paste_leaves(x64):
    draw = CutMix(jnp.array([1, 0]), jnp.asarray(0.75), cutmix_patch(0.75, 0, 0, 8, 8))
    # A side of 4 about a corner: 2 x 2 of the 64 pixels are left of it, not a quarter.
    assert float(draw.pasted(8, 8).kept) == 1 - 4 / 64
    np.testing.assert_array_equal(draw.pasted(8, 8).permutation, [1, 0])


def test_mixup_blends_with_the_partner(x64):
    images = np.arange(3 * 2 * 2 * 1, dtype=float).reshape(3, 2, 2, 1)
    mixed = mixup(jnp.asarray(images), jnp.array([2, 0, 1]), 0.75)
    expected = [[2, 3, 4, 5], [3, 4, 5, 6], [7, 8, 9, 10]]  # .75 of 0.. and .25 of 8.., and so on
    np.testing.assert_allclose(np.reshape(mixed, (3, 4)), expected, rtol=1e-14)


def test_mixup_draws():
    keys = jax.random.split(jax.random.key(3), 2000)
    draws = jax.jit(jax.vmap(lambda key: draw_mixup(key, 5)))(keys)
    kept = np.asarray(draws.kept)
    assert abs(kept.mean() - 0.5) < 0.02  # uniform
    assert abs(kept.var() - 1 / 12) < 0.01
    sorted_rows = np.sort(draws.permutation, axis=1)
    np.testing.assert_array_equal(sorted_rows, np.tile(np.arange(5), (2000, 1)))
