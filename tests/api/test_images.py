"""Data sets of the API: arrays, names, paths."""

import numpy as np
import pytest
import tiny_run

import delt_jax
from delt_jax.errors import InputError


def test_arrays_are_a_data_set():
    pixels = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    images = delt_jax.Images(pixels, [0, 1, 2, 2, 1, 0], ["red", "green", "blue"])
    np.testing.assert_array_equal(images.images, pixels)
    assert images.labels.tolist() == [0, 1, 2, 2, 1, 0] and images.labels.dtype == np.int64
    assert (images.class_names, images.image_size, len(images)) == (("red", "green", "blue"), 4, 6)
    assert (images.spec.num_classes, images.spec.randaugment) == (3, (5, 4))
    mean = pixels.reshape(-1, 3).mean(0) / 255
    np.testing.assert_allclose(images.spec.mean, mean, atol=6e-5)  # kept to four digits


def test_grey_images_become_rgb_and_classes_get_numbers():
    images = delt_jax.Images(np.full((4, 6, 6), 7, np.uint8), [0, 0, 1, 1])
    assert images.images.shape == (4, 6, 6, 3)
    assert images.class_names == ("0", "1")
    assert repr(images) == "Images(arrays: 4 images of 6 x 6, 2 classes)"


def test_a_known_name_brings_its_statistics():
    images = delt_jax.Images(np.zeros((10, 32, 32, 3), np.uint8), range(10), name="cifar10")
    assert images.spec.mean == (0.4914, 0.4822, 0.4465)


def test_images_are_cropped_to_the_size_asked_for():
    pixels = np.zeros((2, 8, 16, 3), np.uint8)
    pixels[:, :, 4:12] = 200  # the middle
    images = delt_jax.Images(pixels, [0, 1])
    assert images.image_size == 8
    assert (images.images == 200).all()


def test_a_picture_has_a_class_a_row():
    images = delt_jax.Images(np.zeros((7, 16, 16, 3), np.uint8), [0, 0, 0, 1, 2, 2, 2])
    # Gaps of 2 px around images of 16, all enlarged by 3.
    assert images.show(per_class=2).size == (3 * (2 * 18 + 2), 3 * (3 * 18 + 2))
    assert images.show(classes=1).size == (3 * (3 * 18 + 2), 3 * (18 + 2))
    assert images._repr_png_().startswith(b"\x89PNG")


def test_data_are_opened_by_path_and_by_name(tmp_path):
    tiny_run.write_archive(tmp_path / "colours.npz")
    train, test = delt_jax.load_data(str(tmp_path / "colours.npz"), image_size=8)
    assert (len(train), len(test), train.class_names) == (36, 14, tiny_run.CLASSES)
    assert train.spec is test.spec
    train, test = delt_jax.load_data("digits", images_per_class=3)
    assert (len(train), len(test)) == (30, 30)
    assert train.spec.mean == (0.3061, 0.3061, 0.3061)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: delt_jax.Images(np.zeros((2, 4, 4, 3)), [0, 1]),
            "images has dtype float64; expected uint8",
        ),
        (
            lambda: delt_jax.Images(np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 1]),
            "images holds 2 images but labels 3 labels",
        ),
        (
            lambda: delt_jax.Images(np.zeros((2, 4, 4, 3), np.uint8), [0, 2], ["a", "b"]),
            r"labels\[1\] is 2; expected a label from 0 to 1",
        ),
        (
            lambda: delt_jax.Images(np.zeros((2, 4, 4, 3), np.uint8), [0, 1], name="cifar10"),
            "data set 'cifar10': 2 classes; expected 10",
        ),
        (
            lambda: delt_jax.Images(np.zeros((2, 4, 4, 3), np.uint8), [1, 2]),
            "labels: labels from 1 to 2, none of class 0",
        ),
        (lambda: delt_jax.load_data("digit"), "'digit' is not in the table; nearest: digits"),
        (lambda: delt_jax.load_data("/nowhere/birds"), "no such file or folder"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
