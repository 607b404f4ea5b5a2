"""CIFAR's pickles: as torchvision unpacks them, and hostile ones."""

import os
import pickle

import numpy as np
import pytest

from delt_jax.data.cifar_pickles import read_pickle
from delt_jax.data.sources import open_source
from delt_jax.errors import InputError

NAMES = ["cat", "dog", "owl"]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
LABELS = [k % 3 for k in range(12)]


def flat(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)


def write(file, content, protocol=4):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol))


def write_cifar10(folder, protocol=4):
    for k in range(5):
        content = {b"data": flat(PIXELS[k : k + 2]), b"labels": LABELS[k : k + 2]}
        write(folder / f"data_batch_{k + 1}", content, protocol)
    write(folder / "test_batch", {b"data": flat(PIXELS[9:]), b"labels": LABELS[9:]}, protocol)
    write(folder / "batches.meta", {b"label_names": [n.encode() for n in NAMES]}, protocol)


def write_cifar100(folder):
    for split, pixels in (("train", PIXELS), ("test", PIXELS[:3])):
        labels = {"fine_labels": LABELS[: len(pixels)], "coarse_labels": [0] * len(pixels)}
        write(folder / split, {"data": flat(pixels), **labels})
    write(folder / "meta", {"fine_label_names": NAMES, "coarse_label_names": ["animal"]})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_cifar10(tmp_path, protocol):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder, protocol)
    for path in (tmp_path, folder):
        train, test = (open_source("own", str(path), split) for split in ("train", "test"))
        assert train.class_names == test.class_names == ("cat", "dog", "owl")
        assert train.labels.tolist() == [0, 1, 1, 2, 2, 0, 0, 1, 1, 2]
        assert test.labels.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(train[3], PIXELS[2])
        np.testing.assert_array_equal(test[2], PIXELS[11])


def test_cifar100_has_its_fine_labels(tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    test = open_source("own", str(tmp_path), "test")
    assert (test.class_names, test.labels.tolist()) == (("cat", "dog", "owl"), [0, 1, 2])
    np.testing.assert_array_equal(test[1], PIXELS[1])


def test_both_side_by_side_are_told_apart_by_the_name(tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-py")
    write_cifar100(tmp_path / "cifar-100-python")
    with pytest.raises(
        InputError, match="holds cifar-10-batches-py and cifar-100-python; expected"
    ):
        open_source("own", str(tmp_path), "train")
    with pytest.raises(InputError, match="has 3 classes; data set 'cifar100' has 100"):
        open_source("cifar100", str(tmp_path), "train")
    assert len(open_source("own", str(tmp_path / "cifar-100-python"), "train")) == 12


# As Python 2 and its NumPy wrote them: protocol 2, byte strings, numpy.core.
PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
    b"\x87R(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x02\xfe\xfftbU\x06labels](K\x03K\x04eu."
)


def test_a_pickle_of_python_2():
    found = read_pickle(PYTHON_2)
    assert found["data"].tolist() == [[1, 2], [254, 255]]
    assert found["labels"] == [3, 4]


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_come_as_they_were(dtype, protocol):
    array = np.asfortranarray(np.arange(12).reshape(3, 4)).astype(dtype)
    found = read_pickle(pickle.dumps({"a": array, "b": b"caf\xe9", "c": [np.int64(7)]}, protocol))
    np.testing.assert_array_equal(found["a"], array)
    assert found["b"] == "caf\xe9"
    assert int(found["c"][0]) == 7


class Runs:
    def __init__(self, what, *args):
        self.what, self.args = what, args

    def __reduce__(self):
        return self.what, self.args


@pytest.mark.parametrize(
    "hostile",
    [
        Runs(os.system, "touch was-here"),
        Runs(eval, "1"),
        Runs(np.ndarray, (2,)),
        Runs(np.load, "x"),
        Runs(getattr, "x", "upper"),
        np.array([None, 1], object),
        np.zeros(2, [("a", "u1")]),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_that_a_file_names_is_called(tmp_path, monkeypatch, hostile, protocol):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10(folder)
    write(folder / "test_batch", {b"data": hostile, b"labels": [0]}, protocol)
    with pytest.raises(
        InputError, match="test_batch: cannot be read as a pickle of CIFAR"
    ) as caught:
        open_source("own", str(folder), "test")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [0]}, "test_batch: no data, found labels"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "test_batch: no labels, found data"),
        ([1], "test_batch: no data, found"),
        (
            {"data": np.zeros((1, 99), np.uint8), "labels": [0]},
            r"data \(1, 99\); expected an array",
        ),
        ({"data": "x", "labels": [0]}, "data str; expected an array"),
        ({"data": np.zeros((1, 3072)), "labels": [0]}, "data has dtype float64; expected uint8"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [3]}, r"labels\[0\] is 3; expected"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}, "expected integers"),
    ],
)
def test_other_contents_are_named(tmp_path, content, message):
    write_cifar10(tmp_path)
    write(tmp_path / "test_batch", content)
    with pytest.raises(InputError, match=message):
        open_source("own", str(tmp_path), "test")


def test_a_file_that_is_cut_or_missing_is_named(tmp_path):
    write_cifar10(tmp_path)
    file = tmp_path / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="data_batch_3: cannot be read as a pickle of CIFAR"):
        open_source("own", str(tmp_path), "train")
    file.unlink()
    with pytest.raises(InputError, match=r"data_batch_3: cannot be read .*No such file"):
        open_source("own", str(tmp_path), "train")
