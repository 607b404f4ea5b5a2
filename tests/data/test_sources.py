"""Which source a config gets."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from delt_jax.data import sources
from delt_jax.data.pipeline import measure_statistics
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
    assert spec.randaugment == (5, 4)
    assert describe("own", str(npz), 20).image_size == 20
    assert describe("cifar10", str(npz)) is SPECS["cifar10"]
    assert describe("cifar10", "", 64).image_size == 64
    assert describe("imagenet2012", "") is SPECS["imagenet1k"]


def test_statistics_are_measured_once_for_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path / "cache"))
    calls = []

    def measure(source, image_size, indices):
        calls.append((image_size, len(indices)))
        return measure_statistics(source, image_size, indices)

    monkeypatch.setattr(sources, "measure_statistics", measure)
    monkeypatch.setattr(sources, "STATISTICS_IMAGES", 8)
    images = np.random.default_rng(0).integers(0, 200, (30, 12, 12, 3)).astype(np.uint8)
    images[..., 2] = 7  # one value everywhere

    def describe_images(size):
        arrays = {f"x_{split}": images for split in ("train", "test")}
        labels = {f"y_{split}": np.arange(30) % 3 for split in ("train", "test")}
        np.savez(tmp_path / "own.npz", **arrays, **labels)
        return describe("own", str(tmp_path / "own.npz"), size)

    first = describe_images(12)
    chosen = images[np.linspace(0, 29, 8).astype(int)].reshape(-1, 3) / 255
    np.testing.assert_allclose(first.mean, chosen.mean(0), atol=5e-5)
    np.testing.assert_allclose(first.std, [*chosen.std(0)[:2], 1 / 255], atol=5e-5)
    assert first.std == tuple(round(value, 4) for value in first.std)
    assert describe_images(12) == first
    assert calls == [(12, 8)]
    describe_images(10)
    images[0] += 1
    assert describe_images(12) != first
    assert calls == [(12, 8), (10, 8), (12, 8)]


def test_image_size_is_what_half_of_the_images_reach(tmp_path):
    for index, side in enumerate((300, 70, 65, 20, 500)):
        folder = tmp_path / "train" / str(index)
        folder.mkdir(parents=True)
        Image.new("RGB", (side + 9, side)).save(folder / "a.png")
    assert describe("own", str(tmp_path)).image_size == 64
    (tmp_path / "train" / "0" / "a.png").write_bytes(b"?")
    assert describe("own", str(tmp_path)).image_size == 64
    for index in range(5):
        (tmp_path / "train" / str(index) / "a.png").write_bytes(b"?")
    with pytest.raises(InputError, match=r"4/a\.png: cannot be read"):
        describe("own", str(tmp_path))


@pytest.fixture
def two_folders(tmp_path):
    """Two folders of class folders, the second with a colon in its name."""
    train, test = tmp_path / "photos", tmp_path / "more: photos"
    for folder, count in ((train, 2), (test, 1)):
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (4, 4)).save(folder / name / f"{index}.png")
    return train, test


def test_two_folders(two_folders):
    train, test = two_folders
    for split, count in (("train", 4), ("test", 2)):
        source = open_source("own", f"{train}:{test}", split)
        assert len(source) == count
        assert source.names[0] == "a/0.png"
    assert len(open_source("own", f"{test}:{train}", "test")) == 4
    assert describe("own", f"{train}:{test}").num_classes == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "{train}:{test}x",
            r"more: photosx' is no such folder; expected TRAINDIR:TESTDIR, two fol",
        ),
        ("{train}x:{train}", r"photosx' is no such folder; expected TRAINDIR:TESTDIR"),
        ("{train}:{train}/a/0.png", r"0\.png' is a file; expected TRAINDIR:TESTDIR"),
        ("{train}:", "expected TRAINDIR:TESTDIR, the paths of two folders"),
        ("{train}:{train}/a", r"photos/a: no class folder in it; expected one folder per class"),
        ("gs://bucket/photos", "expected a path; mount or copy what lies elsewhere"),
    ],
)
def test_wrong_two_folders_end_in_one_line(two_folders, source, message):
    train, test = two_folders
    with pytest.raises(InputError, match=message) as caught:
        open_source("own", source.format(train=train, test=test), "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("cifra10", "", r"'cifra10' is not in the table; nearest: cifar10"),
        ("imagewoof", "", r"'imagewoof': no source given and TFDS does not have it"),
        ("cifar10", "{folder}/smal.npz", r"no such file or folder; is it 'small.npz'\?"),
        ("cifar10", "{folder}/nowhere/x", r"no such file or folder$"),
        ("cifar10", "{folder}/notes.txt", "expected an .npz file or a folder"),
        ("cifar10", "{folder}", r"no train split, found notes.txt, small.npz; expected train/"),
        ("imagenet100", "{folder}/small.npz", "has 10 classes; data set 'imagenet100' has 100"),
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
    test = open_source("cifar10", str(tmp_path / "cifar10.npz"), "test")
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)


@pytest.mark.parametrize("source", ["~nobody-of-that-name/birds", "x" * 300, "a/" * 3000])
def test_a_path_that_no_system_takes_is_named(source):
    with pytest.raises(InputError, match=r"^source .*: cannot be opened \("):
        open_source("birds", source, "train")
