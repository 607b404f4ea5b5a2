"""Sources that lie in memory: the digits and NumPy archives."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from delt_jax.data.arrays import make_source, open_digits, open_npz, stratified_test_mask
from delt_jax.data.image_source import distinct
from delt_jax.errors import InputError


def test_digits_split_is_fixed_stratified_and_complete():
    train, test = open_digits("train", 8), open_digits("test", 8)
    assert (len(train), len(test)) == (1500, 297)
    np.testing.assert_array_equal(
        np.bincount(train.labels), [149, 152, 148, 153, 151, 152, 151, 149, 145, 150]
    )
    np.testing.assert_array_equal(
        np.bincount(test.labels), [29, 30, 29, 30, 30, 30, 30, 30, 29, 30]
    )
    assert test.labels[:8].tolist() == [3, 7, 3, 9, 0, 7, 0, 8]
    # At 8 pixels nothing is resampled: both together are scikit-learn's images, once each.
    images = np.concatenate([[s[i][..., 0] for i in range(len(s))] for s in (train, test)])
    expected = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, images)) == sorted(map(bytes, expected))


def test_digits_are_upscaled_to_rgb_by_pillow():
    small, large = open_digits("test", 8), open_digits("test", 32)
    assert large[5].shape == (32, 32, 3)
    expected = Image.fromarray(small[5]).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(large[5], expected)
    assert large.names[:2] == ("3/00000.png", "7/00001.png")
    assert large.class_names == tuple("0123456789")


def test_stratified_mask_shares_to_within_one():
    labels = np.repeat([0, 1, 2], [10, 20, 31])
    mask = stratified_test_mask(labels, 12, seed=3)
    assert mask.sum() == 12
    np.testing.assert_array_equal(np.bincount(labels[mask]), [2, 4, 6])
    np.testing.assert_array_equal(mask, stratified_test_mask(labels, 12, seed=3))


def write_npz(path, **changes):
    arrays = {
        "x_train": np.arange(4 * 8 * 8 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 8, 8, 3),
        "y_train": np.array([1, 0, 1, 0]),
        "x_test": np.zeros((2, 8, 8, 3), np.uint8),
        "y_test": np.array([0, 1]),
    }
    arrays.update(changes)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def test_npz(tmp_path):
    path = write_npz(tmp_path / "d.npz", class_names=np.array(["cat", "a/b"]))
    source = open_npz(path, "train", None)
    assert source.class_names == ("cat", "a/b")
    assert source.names == ("a_b/00000.png", "cat/00001.png", "a_b/00002.png", "cat/00003.png")
    assert source.labels.tolist() == [1, 0, 1, 0]
    assert source.labels.dtype == np.int64
    with np.load(path) as archive:
        np.testing.assert_array_equal(source[2], archive["x_train"][2])


def test_class_names_may_be_bytes(tmp_path):
    path = write_npz(tmp_path / "d.npz", class_names=np.array([b"cat", "e\u0301lan".encode()]))
    assert open_npz(path, "train", None).class_names == ("cat", "\u00e9lan")


@pytest.mark.parametrize("shape", [(4, 8, 6), (4, 8, 6, 1)])
def test_npz_grey_becomes_rgb(tmp_path, shape):
    grey = np.arange(4 * 8 * 6, dtype=np.uint8).reshape(shape)
    labels = np.array([[0], [1], [0], [1]], np.uint8)  # as CIFAR archives have them
    source = open_npz(write_npz(tmp_path / "d.npz", x_train=grey, y_train=labels), "train", None)
    assert source.class_names == ("0", "1")
    np.testing.assert_array_equal(source[3], np.repeat(grey.reshape(4, 8, 6, 1)[3], 3, -1))


def test_an_archive_of_medmnist(tmp_path):
    arrays = {}
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        arrays[f"{split}_images"] = np.full((3, 8, 8), first, np.uint8)
        arrays[f"{split}_labels"] = np.array([[2], [0], [1]], np.uint8)
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    for split, value in (("train", 0), ("test", 200)):
        source = open_npz(tmp_path / "pneumoniamnist.npz", split, None)
        assert source.labels.tolist() == [2, 0, 1]
        assert source.class_names == ("0", "1", "2")
        np.testing.assert_array_equal(source[1], np.full((8, 8, 3), value))


def test_several_labels_an_image_are_refused(tmp_path):
    # As those of ChestMNIST.
    arrays = {"train_images": np.zeros((2, 8, 8), np.uint8), "train_labels": np.zeros((2, 14), int)}
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    with pytest.raises(InputError, match=r"train_labels has shape \(2, 14\) .* expected integers"):
        open_npz(tmp_path / "chestmnist.npz", "train", None)


def test_a_test_set_alone(tmp_path):
    path = write_npz(tmp_path / "d.npz", x_train=None, y_train=None)
    assert open_npz(path, "test", None).labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="no array 'x_train', found x_test, y_test; expected"):
        open_npz(path, "train", None)
    with pytest.raises(InputError, match=r"other\.npz: no such file"):
        open_npz(tmp_path / "other.npz", "test", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, "no array 'x_test'"),
        ({"x_test": np.zeros((2, 8, 8, 4), np.uint8)}, r"x_test has shape \(2, 8, 8, 4\)"),
        ({"x_test": np.zeros((2, 8, 8, 3))}, "x_test has dtype float64; expected uint8"),
        ({"x_test": np.zeros((0, 8, 8, 3), np.uint8)}, r"x_test has shape \(0,"),
        ({"y_test": np.array([0, 2])}, r"y_test\[1\] is 2; expected a label from 0 to 1"),
        ({"y_test": np.array([0, -1])}, r"is -1; expected a label from 0 \(-1 mostly stands for n"),
        (
            {"y_test": np.array([0, 255], np.uint8)},
            r"is 255; .* \(255 mostly stands for no label, -1",
        ),
        (
            {"y_test": np.array([1, 2]), "class_names": np.array(["a", "b"])},
            r"y_test\[1\] is 2; expected a label from 0 to 1 \(do they begin with 1\?\)",
        ),
        (
            {"y_train": np.array([1, 2, 1, 2])},
            r"y_train: labels from 1 to 2, none of class 0; .* \(subtract 1",
        ),
        (
            {"y_train": np.array([0, 1, 255, 1], np.uint8)},
            r"y_train: label 255 above labels up to 1; expected .* \(255 mostly stands",
        ),
        (
            {"class_names": np.array([b"\xe9", b"a"])},
            r"class name b'\\xe9': expected text in UTF-8",
        ),
        ({"class_names": np.array(["\u00e9", "e\u0301"])}, "one name, 'é', in two Unicode forms"),
        (
            {
                "x_test": np.arange(4 * 8 * 8 * 3, dtype=np.uint32)
                .astype(np.uint8)
                .reshape(4, 8, 8, 3)
            },
            "x_test is x_train; expected test images of their own",
        ),
        ({"y_test": np.array([0.0, 1.0])}, "dtype float64; expected integers"),
        ({"y_test": np.array([0, 1, 1])}, "holds 2 images but y_test 3 labels"),
        ({"y_test": np.array([0, "a"], object)}, "cannot be read as an .npz"),
    ],
)
def test_wrong_npz(tmp_path, changes, message):
    path = write_npz(tmp_path / "d.npz", **changes)
    with pytest.raises(InputError, match=message) as caught:
        open_npz(path, "test", None)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (2**40, "y_train: label 1099511627776; expected labels from 0 to 999,999"),
        (2**63, r"y_train\[1\] is 9223372036854775808; expected a label from 0"),
    ],
)
def test_classes_are_not_counted_up_to_any_label(tmp_path, label, message):
    path = write_npz(tmp_path / "d.npz", y_train=np.array([0, label, 1, 0], np.uint64))
    with pytest.raises(InputError, match=message):
        open_npz(path, "train", None)
    with pytest.raises(InputError, match=message):
        open_npz(path, "test", None)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=f"labels.*{label}.*; expected"):
        make_source(images, np.array([0, label], np.uint64), None)


def test_not_an_archive(tmp_path):
    path = tmp_path / "d.npz"
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"cannot be read as an \.npz"):
        open_npz(path, "train", None)


def test_a_class_name_that_no_file_can_hold_is_refused(tmp_path):
    path = write_npz(tmp_path / "d.npz", class_names=np.array(["cat", "\ud800"]))
    with pytest.raises(
        InputError, match=r"class 1 is called .*; expected text that UTF-8 can hold"
    ):
        open_npz(path, "train", None)


def test_no_two_classes_are_called_alike():
    names = distinct(["a", "a (class 2)", "a", "b", "a"])
    assert names == ("a", "a (class 2)", "a (class 2) (class 2)", "b", "a (class 4)")
