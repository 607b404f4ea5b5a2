"""Views of a whole epoch that are kept image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.core.augment import stored_views
from delt_jax.core.augment.geometry import Box, View, resample
from delt_jax.core.augment.mixing import Patch, cutmix
from delt_jax.core.augment.stored_views import StoredViews, cut_out, draw_epoch, show
from delt_jax.core.augment.views import StudentViews, as_pixels
from delt_jax.errors import InputError

SIZE, COUNT, BATCH = 8, 11, 4
VIEWS = StudentViews(randaugment_ops=0, min_scale=0.25)


def images(count=COUNT):
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def drawn(seed=0, views: StudentViews | None = VIEWS):
    order, kept = draw_epoch(jax.random.key(seed), COUNT, SIZE, BATCH, views)
    return np.asarray(order), StoredViews(*map(np.asarray, kept))  # type: ignore[arg-type]


def test_an_epoch_shows_every_image_once_with_partners_of_its_batch():
    order, kept = drawn()
    assert sorted(order) == list(range(COUNT))
    assert (order != np.arange(COUNT)).any()
    assert [order.dtype, *(part.dtype for part in kept)] == [
        *(np.int32, np.int16, np.uint8, np.int32, np.int16)
    ]
    for batch in (order[:4], order[4:8], order[8:]):  # the last one is smaller
        assert sorted(kept.partners[batch]) == sorted(batch)
        assert (kept.patches[batch] == kept.patches[batch[0]]).all()
    assert len(np.unique(kept.patches, axis=0)) == 3  # one a batch
    assert set(kept.flips) == {0, 1}
    top, left, height, width = kept.crops.T
    assert (kept.crops >= 0).all() and (height > 0).all() and (width > 0).all()
    assert (top + height <= SIZE).all() and (left + width <= SIZE).all()
    assert (height * width >= 0.25 * SIZE**2 - SIZE).all()  # sides are rounded
    assert len(np.unique(kept.crops, axis=0)) > 5
    top, left, bottom, right = kept.patches.T
    assert ((top >= 0) & (top <= bottom) & (bottom <= SIZE)).all()
    assert ((left >= 0) & (left <= right) & (right <= SIZE)).all()


def test_another_key_draws_another_epoch():
    order, kept = drawn(0)
    other_order, other = drawn(1)
    assert (order != other_order).any()
    assert all((a != b).any() for a, b in zip(kept, other))


def test_a_batch_of_all_images_has_one_patch():
    order, kept = draw_epoch(jax.random.key(3), COUNT, SIZE, 50, VIEWS)
    assert len(np.unique(kept.patches, axis=0)) == 1
    assert sorted(np.asarray(kept.partners)) == sorted(np.asarray(order))


def test_shows_what_resampling_and_cutmix_show(x64):
    order, kept = drawn()
    chosen = order[4:8]
    pixels = as_pixels(jnp.asarray(images()))[chosen]
    box = Box(*map(jnp.asarray, kept.crops[chosen].T.astype(int)))
    still = jnp.zeros(4, int)
    seen = resample(pixels, View(box, jnp.asarray(kept.flips[chosen] == 1), still, still))
    permutation = np.asarray([list(chosen).index(p) for p in kept.partners[chosen]])
    patch = Patch(*(jnp.asarray(int(edge)) for edge in kept.patches[chosen[0]]))
    expected = cutmix(seen, jnp.asarray(permutation), patch)
    shown = show(jnp.asarray(images()), kept, jnp.asarray(chosen))
    assert shown.dtype == jnp.float64
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-15)
    assert (np.asarray(shown) != np.asarray(seen)).any()  # something was pasted
    # Any batches show an image alike.
    alone = show(jnp.asarray(images()), kept, jnp.asarray(chosen[2:3]))
    np.testing.assert_array_equal(alone[0], shown[2])


def test_pastes_the_partner_by_hand():
    two = np.stack([np.full((4, 4, 3), 51), np.full((4, 4, 3), 255)]).astype(np.uint8)
    kept = StoredViews(
        jnp.asarray([[0, 0, 4, 4], [0, 0, 4, 4]], jnp.int16),
        jnp.zeros(2, jnp.uint8),
        jnp.asarray([1, 0], jnp.int32),
        jnp.asarray([[1, 0, 3, 2], [0, 0, 0, 0]], jnp.int16),  # nothing enters the second
    )
    shown = np.asarray(show(jnp.asarray(two), kept, jnp.asarray([0, 1])))
    low, high = 0.2, 1.0
    rows = [[low] * 4, [high, high, low, low], [high, high, low, low], [low] * 4]
    np.testing.assert_allclose(shown[0, :, :, 0], rows, rtol=1e-6)
    np.testing.assert_allclose(shown[1], 1.0, rtol=1e-6)


def test_without_views_images_are_shown_as_they_are():
    _, kept = drawn(views=None)
    np.testing.assert_array_equal(kept.crops, [[0, 0, SIZE, SIZE]] * COUNT)
    np.testing.assert_array_equal(kept.partners, np.arange(COUNT))
    assert not kept.flips.any() and not kept.patches.any()
    shown = show(jnp.asarray(images()), kept, jnp.arange(COUNT))
    np.testing.assert_allclose(shown, as_pixels(jnp.asarray(images())), rtol=1e-6)


def test_without_cutmix_nothing_is_pasted():
    _, kept = drawn(views=StudentViews(randaugment_ops=0, cutmix=0.0))
    assert not kept.patches.any()
    assert kept.flips.any() and np.min(kept.crops[:, 2:]) < SIZE


def test_a_part_shows_the_same():
    order, kept = drawn()
    chosen = order[2:5]  # across two batches of the draw
    rows, part = cut_out(kept, chosen)
    np.testing.assert_array_equal(rows, [*chosen, *kept.partners[chosen]])
    views = StoredViews(*map(jnp.asarray, part))
    np.testing.assert_array_equal(
        show(jnp.asarray(images()[rows]), views, jnp.arange(3)),
        show(jnp.asarray(images()), kept, jnp.asarray(chosen)),
    )


@pytest.mark.parametrize("views", [StudentViews(), StudentViews(randaugment_ops=0, mixup=0.8)])
def test_what_cannot_be_kept_is_refused(views):
    with pytest.raises(InputError, match="expected 0 of both"):
        stored_views.check(views)
