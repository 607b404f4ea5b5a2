"""Views of training images."""

import jax
import numpy as np
import pytest

from delt_jax.core.augment.views import StudentViews, TeacherViews, pad_crop_flip, teacher_views
from delt_jax.core.augment.views import student_views as eager_student_views

PLAIN = StudentViews(randaugment_ops=0, min_scale=1.0, flip_probability=0.0, cutmix=0.0)
student_views = jax.jit(eager_student_views, static_argnums=2)


def images_of(count, size=8, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_nothing_switched_on_changes_nothing(x64):
    images = images_of(4)
    shown, mix = student_views(jax.random.key(0), images, PLAIN)
    np.testing.assert_allclose(shown, images / 255, atol=1e-12)
    assert shown.dtype == np.float64
    assert mix is None


def test_no_views_show_the_very_images():
    images = images_of(4)
    shown, mix = student_views(jax.random.key(0), images, None)
    np.testing.assert_array_equal(np.round(255 * shown, 4), images)
    assert mix is None


def test_every_image_gets_a_view_of_its_own():
    images = np.repeat(images_of(1, size=32), 16, axis=0)
    views = StudentViews(randaugment_ops=0, min_scale=0.25, cutmix=0.0)
    shown = np.asarray(student_views(jax.random.key(0), images, views)[0])
    assert len(np.unique(shown.reshape(16, -1), axis=0)) == 16
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_cutmix_makes_patches_of_other_images():
    images = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None] * 50, (6, 8, 8, 3))
    views = StudentViews(randaugment_ops=0, min_scale=1.0, cutmix=1.0)
    for seed in range(5):
        shown, mix = student_views(jax.random.key(seed), images, views)
        values = np.round(np.asarray(shown) * 255).astype(int)
        assert set(values.ravel()) <= {0, 50, 100, 150, 200, 250}
        changed = (values != np.asarray(images)).any(axis=-1)
        touched = changed[changed.any(axis=(1, 2))]
        assert (touched == touched[:1]).all()  # one box for the batch
        # The share that labels are mixed by is that of the pixels, not the lambda drawn.
        moved = changed[np.asarray(mix.permutation) != np.arange(6)]
        assert moved.mean() == pytest.approx(1 - float(mix.kept), abs=1e-6)
        partner = 50 * np.asarray(mix.permutation)[:, None, None]
        assert (values[..., 0] == np.where(changed, partner, np.asarray(images)[..., 0])).all()


def test_mixup_takes_the_place_of_cutmix():
    images = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None] * 50, (6, 8, 8, 3))
    views = StudentViews(randaugment_ops=0, min_scale=1.0, cutmix=0.0, mixup=0.8)
    shown, mix = student_views(jax.random.key(1), images, views)
    expected = mix.kept * np.arange(6) + (1 - mix.kept) * np.asarray(mix.permutation)
    np.testing.assert_allclose(
        shown, np.broadcast_to(50 / 255 * expected[:, None, None, None], shown.shape), atol=1e-6
    )
    assert 0 < mix.kept < 1


def test_pad_crop_flip_moves_and_mirrors():
    images = images_of(40)
    assert (pad_crop_flip(jax.random.key(0), images, 0, 0.0) == images).all()
    assert (pad_crop_flip(jax.random.key(0), images, 0, 1.0) == images[:, :, ::-1]).all()
    shown = np.asarray(pad_crop_flip(jax.random.key(1), images, 2))
    assert shown.dtype == np.uint8
    found = set()
    for image, view in zip(images, shown):
        for flip in (False, True):
            padded = np.pad(image[:, ::-1] if flip else image, ((2, 2), (2, 2), (0, 0)))
            for row in range(5):
                for column in range(5):
                    if (padded[row : row + 8, column : column + 8] == view).all():
                        found.add((row, column, flip))
                        break
    assert {flip for *_, flip in found} == {False, True}
    assert {row for row, *_ in found} == set(range(5)) == {column for _, column, _ in found}


def test_teacher_views_keep_an_honest_count_of_what_cutmix_left():
    images = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None] * 50, (6, 8, 8, 3))
    views = TeacherViews(8, pad=0, cutmix_probability=0.5)
    show = jax.jit(teacher_views, static_argnums=2)
    shares = []
    for seed in range(20):
        pixels, mix = show(jax.random.key(seed), images, views)
        values = np.round(np.asarray(pixels) * 255).astype(int)
        partner = 50 * np.asarray(mix.permutation)[:, None, None, None]
        own = values == np.asarray(images)
        assert (own | (values == partner)).all()
        moved = np.asarray(mix.permutation) != np.arange(6)
        if moved.any():
            assert own[moved].mean() == pytest.approx(float(mix.kept), abs=1e-6)
            shares.append(float(mix.kept))
    assert 5 <= sum(share == 1 for share in shares) <= 17  # about half are left alone


def test_resized_teacher_views_may_shrink():
    images = images_of(4, size=16)
    views = TeacherViews(8, "resized", min_scale=1.0, flip_probability=0.0)
    pixels, mix = jax.jit(teacher_views, static_argnums=2)(jax.random.key(0), images, views)
    assert mix is None
    expected = images.reshape(4, 8, 2, 8, 2, 3).mean(axis=(2, 4)) / 255
    # Bilinear sampling at the middle of each 2 x 2 pixels, where the whole image is the crop.
    np.testing.assert_allclose(pixels, expected, atol=1e-5)
