"""Batches: order, raggedness, workers; the centre crop."""

import numpy as np
import pytest

from delt_jax.data.arrays import ArraySource
from delt_jax.data.pipeline import batches, centre_crop, load, measure_statistics, resize_side
from delt_jax.errors import InputError


@pytest.fixture
def source():
    """Eleven 8 x 8 images; all pixels of image i are i."""
    values = np.arange(11, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (11, 8, 8, 3))
    return ArraySource(images, np.arange(11) % 3, ("a", "b", "c"))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_order_and_ragged_last_batch(source, threads):
    found = list(batches(source, None, 4, 8, threads=threads))
    assert [batch.images.shape for batch in found] == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    assert np.concatenate([batch.indices for batch in found]).tolist() == list(range(11))
    for images, labels, indices in found:
        assert images.dtype == np.uint8
        assert labels.dtype == indices.dtype == np.int64
        np.testing.assert_array_equal(images[:, 0, 0, 0], indices)
        np.testing.assert_array_equal(labels, indices % 3)


def test_indices_choose_and_repeat(source):
    batch = next(batches(source, [7, 2, 2], 4, 8))
    assert batch.indices.tolist() == [7, 2, 2]
    assert batch.images[:, 0, 0, 0].tolist() == [7, 2, 2]
    assert list(batches(source, [], 4, 8)) == []


def test_workers_change_nothing(source):
    alone, shared = (list(batches(source, [9, 0, 4, 4, 1], 2, 8, workers=w)) for w in (0, 2))
    assert len(alone) == len(shared) == 3
    for one, other in zip(alone, shared, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_input_error_comes_through(source):
    class Broken(ArraySource):
        def __getitem__(self, index):
            if index == 5:
                raise InputError("image 5: cannot be read")
            return super().__getitem__(index)

    broken = Broken(source._images, source.labels, source.class_names)
    iterator = batches(broken, None, 4, 8)
    assert next(iterator).indices.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="image 5: cannot be read"):
        next(iterator)


def test_stopping_early_leaves_nothing_behind(source):
    iterator = batches(source, None, 2, 8)
    next(iterator)
    iterator.close()
    assert list(iterator) == []


def test_load(source):
    batch = load(source, [3, 1], 8)
    assert batch.images[:, 0, 0, 0].tolist() == [3, 1]
    assert load(source, None, 8).labels.tolist() == source.labels.tolist()
    assert load(source, [], 8).images.shape == (0, 8, 8, 3)


def test_statistics_of_known_pixels(source):
    mean, std = measure_statistics(source, 8)
    np.testing.assert_allclose(mean, [5 / 255] * 3, rtol=1e-12)
    np.testing.assert_allclose(std, [np.sqrt(10) / 255] * 3, rtol=1e-12)


def test_resize_side():
    assert [resize_side(s) for s in (224, 128, 64, 32, 8)] == [256, 144, 72, 32, 8]
    assert [resize_side(s) for s in (1, 20, 41)] == [1, 20, 41]  # never less than the crop


def test_centre_crop_of_a_wide_image():
    columns = np.broadcast_to(np.arange(12, dtype=np.uint8)[None, :, None], (8, 12, 3))
    np.testing.assert_array_equal(centre_crop(columns, 8)[0, :, 0], np.arange(2, 10))
    np.testing.assert_array_equal(centre_crop(columns.swapaxes(0, 1), 8)[:, 0, 0], np.arange(2, 10))
