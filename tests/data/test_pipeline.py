"""Batches: order, raggedness, workers, unreadable images, views; the centre crop."""

import errno

import numpy as np
import pytest
from PIL import Image

from delt_jax.data import pipeline
from delt_jax.data.arrays import ArraySource
from delt_jax.data.image_folder import open_image_folder
from delt_jax.data.patches import RandomCrops
from delt_jax.data.pipeline import batches, centre_crop, load, measure_statistics, resize_side
from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import faults


@pytest.fixture
def source():
    """Eleven 8 x 8 images; all pixels of image i are i."""
    values = np.arange(11, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (11, 8, 8, 3))
    return ArraySource(images, np.arange(11) % 3, ("a", "b", "c"))


BROKEN = (2, 6)


@pytest.fixture
def broken_source(tmp_path):
    """Two classes of four images; in each the third file is none."""
    for name in ("a", "b"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (12, 12), (50, 100, 10 * number)).save(folder / f"{number}.png")
        (folder / "2.png").write_bytes(b"not an image")
    return open_image_folder(tmp_path, "train")


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_order_and_ragged_last_batch(source, threads):
    found = list(batches(source, None, 4, 8, threads=threads))
    assert [batch.images.shape for batch in found] == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    assert np.concatenate([batch.indices for batch in found]).tolist() == list(range(11))
    for images, labels, indices, problems, boxes in found:
        assert (problems, boxes) == ((), None)
        assert images.dtype == np.uint8
        assert labels.dtype == indices.dtype == np.int64
        np.testing.assert_array_equal(images[:, 0, 0, 0], indices)
        np.testing.assert_array_equal(labels, indices % 3)


def test_indices_choose_and_repeat(source):
    batch = next(batches(source, [7, 2, 2], 4, 8))
    assert batch.indices.tolist() == [7, 2, 2]
    assert batch.images[:, 0, 0, 0].tolist() == [7, 2, 2]
    assert list(batches(source, [], 4, 8)) == []


def assert_equal_batches(alone, shared):
    assert len(alone) == len(shared)
    for one, other in zip(alone, shared, strict=True):
        assert one.problems == other.problems
        for name in ("images", "labels", "indices", "boxes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_workers_change_nothing(broken_source):
    """Neither order nor images, nor the reasons why some cannot be read; with views too."""
    indices = [7, 0, 6, 6, 2, 3]
    for views in (None, RandomCrops(3, 5, seed=1)):
        alone, shared = (
            list(batches(broken_source, indices, 4, 8, views=views, strict=False, workers=workers))
            for workers in (0, 2)
        )
        assert [batch.indices.tolist() for batch in shared] == [[7, 0, 6, 6], [2, 3]]
        assert_equal_batches(alone, shared)


def test_unreadable_images_are_black_and_named(broken_source):
    first, second = batches(broken_source, None, 4, 8, strict=False)
    assert first.labels.tolist() == [0, 0, -1, 0]
    assert second.labels.tolist() == [1, 1, -1, 1]
    for batch, index in zip((first, second), BROKEN, strict=True):
        assert (batch.images[2] == 0).all()
        assert (batch.images[3] == (50, 100, 30)).all()
        ((found, reason),) = batch.problems
        assert found == index
        assert reason.endswith(
            f"{broken_source.names[index]}: cannot be read (no known image format); expected an "
            "image file that Pillow opens"
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_errors_where_strict(broken_source, workers):
    iterator = batches(broken_source, None, 2, 8, workers=workers)
    assert next(iterator).labels.tolist() == [0, 0]
    with pytest.raises(InputError, match=r"a/2\.png: cannot be read"):
        next(iterator)


class Undelivered(ArraySource):
    """Images on a disk that does not answer."""

    def __getitem__(self, index):
        raise OSError(errno.EIO, "", "/data/1.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_the_disk_does_not_deliver_is_not_left_out(source, workers):
    undelivered = Undelivered(source._images, source.labels, source.class_names)
    with pytest.raises(OSError) as caught:
        next(batches(undelivered, None, 2, 8, strict=False, workers=workers))
    fault = faults.explained(caught.value)
    assert isinstance(fault, Interrupted)
    assert str(fault).startswith("/data/1.png: Input/output error; see to the disk")


def test_views(broken_source):
    views = RandomCrops(3, 5, seed=1)
    (batch,) = batches(broken_source, [1, 2], 4, 8, views=views, strict=False)
    assert (batch.images.shape, batch.boxes.shape) == ((2, 3, 5, 5, 3), (2, 3, 4))
    crops, boxes = views(broken_source[1], "a/1.png")
    np.testing.assert_array_equal(batch.images[0], crops)
    np.testing.assert_array_equal(batch.boxes[0], boxes)
    assert not batch.images[1].any()
    assert not batch.boxes[1].any()


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


def test_load_names_what_it_could_not_read(broken_source):
    batch = load(broken_source, [0, 6, 7], 8, strict=False)
    assert batch.labels.tolist() == [0, -1, 1]
    assert [index for index, _ in batch.problems] == [6]
    with pytest.raises(InputError, match=r"b/2\.png: cannot be read"):
        load(broken_source, [0, 6, 7], 8)


def test_statistics_leave_out_unreadable_images(broken_source):
    mean, std = measure_statistics(broken_source, 8, [0, 2])
    np.testing.assert_allclose(np.asarray(mean) * 255, (50, 100, 0), atol=1e-9)
    np.testing.assert_allclose(std, 0, atol=1e-9)
    with pytest.raises(InputError, match=r"a/2\.png: cannot be read"):
        measure_statistics(broken_source, 8, [2, 6])


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


@pytest.mark.parametrize("shape", [(8, 2000, 3), (2000, 8, 3), (1, 600, 3)])
def test_of_a_strip_only_the_crop_is_resized(shape, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = pipeline.centre_crop(image, 8)
    assert found.shape == (8, 8, 3)
    monkeypatch.setattr(pipeline, "LONGEST", 10**9)
    whole = pipeline.centre_crop(image, 8).astype(int)
    assert np.abs(found - whole).max() <= 1  # Pillow rounds the filter's weights to 8 bits
