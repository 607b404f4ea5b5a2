"""Exported sets as others read them: class folders are numbered as the labels, whoever sorts."""

import importlib
import pathlib

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.image_folder import open_two_folders
from delt_jax.export import formats
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest

pytest.importorskip("torch")

CLASS_NAMES = {
    "numbers": ["1", "10", "2"],
    "case": ["Zebra", "apple"],
    "number at the end": ["class1", "class10", "class2"],
    "leading zeros": ["01", "1", "001", "0"],
    "WordNet": ["n01440764", "n02102040", "n02979186"],
    "Unicode": ["Ähre", "apfel", "Öl", "zebra", "日本", "naïve"],
    "case alone": ["CAT", "Cat", "cat"],
    "spaces": ["a b", "a  b", "a", " a"],
    "signs": ["a-b", "a_b", "a.b", "a/b", "a b", "ab"],
    "one class": ["only"],
    "words for splits": ["apple", "test", "train", "val", "train station", "dev-2"],
    "digits of other scripts": ["x²", "2²", "1\u06610", "\u0662", "①", "x½"],
    "mixed": ["Class 2", "class 10", "class 1", "CLASS 3", "100", "2e3", "-1", "_x"],
    "floats": ["0.1", "0.10", "0.2", "1e1"],
    "more than a thousand": [str(k) for k in range(1001)],
    "sorted": ["airplane", "bird", "cat"],
}


def pixels_of(count):
    """Images of one value each, which says their class."""
    low, high = np.arange(count) % 256, np.arange(count) // 256
    channels = np.stack([low, high, 0 * low], axis=-1).astype(np.uint8)
    return np.broadcast_to(channels[:, None, None], (count, 4, 4, 3)).copy()


def class_of(image):
    low, high = np.asarray(image)[0, 0, :2]
    return int(low) + 256 * int(high)


@pytest.fixture(params=CLASS_NAMES.values(), ids=list(CLASS_NAMES), scope="module")
def distilled(request, tmp_path_factory):
    """A distilled set with an image in each class of a list."""
    folder = tmp_path_factory.mktemp("around") / "distilled"
    names = request.param
    records = [ImageRecord(k, name, 0) for k, name in enumerate(names)]
    written = write_images(folder, pixels_of(len(names)), records, class_names=names)
    write_manifest(folder, written, {"method": "EarlyLate", "data": "own"})
    return folder


def ours(folder: pathlib.Path):
    source = open_two_folders(folder, folder, "train")
    return [(class_of(source[k]), int(label)) for k, label in enumerate(source.labels)]


def timm(folder: pathlib.Path):
    package = pytest.importorskip("timm")
    rows = []
    for file, label in package.data.create_dataset("", root=str(folder)).reader:
        with file:  # its data set would leave it open
            rows.append((class_of(Image.open(file)), label))
    return rows


def torchvision(folder: pathlib.Path):
    package = importlib.import_module("torchvision")
    return [(class_of(image), label) for image, label in package.datasets.ImageFolder(folder)]


def datasets(folder: pathlib.Path):
    package = pytest.importorskip("datasets")
    cache = str(folder.parent.parent / "cache")
    # Of one class it would leave the labels out.
    rows = package.load_dataset(
        "imagefolder", data_dir=str(folder), drop_labels=False, cache_dir=cache, split="train"
    )
    return [(class_of(row["image"]), row["label"]) for row in rows]


@pytest.fixture(autouse=True)
def packages(monkeypatch, request):
    request.getfixturevalue("torchvision")  # before timm, which imports it too
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(
    "reader", [ours, timm, torchvision, datasets], ids=lambda one: one.__name__
)
def test_class_folders_are_read_with_their_labels(distilled, reader):
    found = reader(distilled / "train")
    assert sorted(found) == [(k, k) for k in range(len(found))]
    assert len(found) == len(list((distilled / "train").iterdir()))


def test_a_whole_export_is_read_with_its_labels(distilled, tmp_path):
    folder = formats.export(distilled, tmp_path, ["image_folder"])["image_folder"]
    for reader in (timm, torchvision):
        assert all(k == label for k, label in reader(folder / "train"))
    assert all(k == label for k, label in datasets(folder))
