"""Which source a config gets."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.sources import describe, open_source
from delt_jax.data.specs import SPECS
from delt_jax.errors import InputError


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "small.npz"
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = np.zeros((20, 40, 36, 3), np.uint8)
        arrays[f"y_{split}"] = np.arange(20) % 10
    np.savez(path, **arrays)
    return path


def test_empty_source_is_the_default_of_the_row():
    assert len(open_source("digits", "", "test")) == 297
    assert open_source(SPECS["digits"], "", "test", 16)[0].shape == (16, 16, 3)


def test_npz_takes_class_names_from_the_row(npz):
    assert open_source("cifar10", str(npz), "train").class_names[0] == "airplane"
    assert open_source("own", str(npz), "train").class_names[0] == "0"


def test_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (70, 65)).save(tmp_path / "train" / name / "1.png")
    assert open_source("own", str(tmp_path), "train").class_names == ("a", "b")


def test_describe_derives_what_the_table_lacks(npz):
    spec = describe("own", str(npz))
    assert (spec.name, spec.num_classes, spec.image_size) == ("own", 10, 32)
    assert spec.class_names == tuple("0123456789")
    assert describe("own", str(npz), 20).image_size == 20
    assert describe("cifar10", str(npz)) is SPECS["cifar10"]
    assert describe("cifar10", "", 64).image_size == 64


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("cifra10", "", r"'cifra10' is not in the table; nearest: cifar10"),
        ("tiny-imagenet", "", r"'tiny-imagenet': no source given and TFDS does not have it"),
        ("cifar10", "{folder}/smal.npz", r"no such file or folder; is it 'small.npz'\?"),
        ("cifar10", "{folder}/nowhere/x", r"no such file or folder$"),
        ("cifar10", "{folder}/notes.txt", "expected an .npz file or a folder"),
        ("cifar10", "{folder}", r"no train split, found notes.txt, small.npz; expected train/"),
        ("cifar100", "{folder}/small.npz", "has 10 classes; data set 'cifar100' has 100"),
    ],
)
def test_wrong_source_ends_in_one_line(npz, name, source, message):
    (npz.parent / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=message) as caught:
        open_source(name, source.format(folder=npz.parent), "train")
    assert "\n" not in str(caught.value)


def test_wrong_split():
    with pytest.raises(InputError, match="split 'val': expected train or test"):
        open_source("digits", "", "val")  # pyright: ignore[reportArgumentType]


def test_cifar10_of_the_shared_folder(shared_data, tmp_path):
    command = [sys.executable, str(shared_data / "unpack.py"), "cifar10", str(tmp_path), "--npz"]
    subprocess.run(command, check=True)
    source = open_source("cifar10", str(tmp_path / "cifar10.npz"), "train")
    assert len(source) == 50_000
    np.testing.assert_array_equal(np.bincount(source.labels), [5000] * 10)
    assert [source.class_names[label] for label in source.labels[:3]] == ["frog", "truck", "truck"]
    # The published statistics: mean over all pixels, mean over images of their own deviations.
    pixels = np.stack([source[i] for i in range(0, 50_000, 10)]).reshape(5000, -1, 3) / 255
    np.testing.assert_allclose(pixels.mean((0, 1)), SPECS["cifar10"].mean, atol=5e-3)
    np.testing.assert_allclose(pixels.std(1).mean(0), SPECS["cifar10"].std, atol=3e-3)
    test = open_source("cifar10", str(tmp_path / "cifar10.npz"), "test")
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
