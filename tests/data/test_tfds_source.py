"""TFDS through data_source, on a small data set written here without TensorFlow."""

import collections
import hashlib
import importlib.resources
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from delt_jax.data import tfds_source
from delt_jax.data.sources import open_source
from delt_jax.data.specs import SPECS
from delt_jax.data.tfds_source import open_tfds, parse_source
from delt_jax.errors import InputError


def pixels(index):
    return np.random.default_rng(index).integers(0, 256, (7, 8, 3), np.uint8)


def png(index):
    file = io.BytesIO()
    Image.fromarray(pixels(index)).save(file, "PNG")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def tfds():
    # TFDS 4.9 imports this backport to write; the standard library has had it since 3.9.
    sys.modules.setdefault("importlib_resources", importlib.resources)
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def data_dir(tfds, tmp_path_factory):
    """A prepared data set `toy_photos` with splits train (5) and validation (3)."""

    # Not registered: TFDS finds the prepared files alone, as on a machine that did not write them.
    class ToyPhotos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Two classes of noise."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["cat", "n/a"]),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {
                "train": self._generate_examples(0, 5),
                "validation": self._generate_examples(5, 8),
            }

        def _generate_examples(self, start, stop):
            for index in range(start, stop):
                yield index, {"image": png(index), "label": index % 2}

    folder = tmp_path_factory.mktemp("tfds")
    ToyPhotos(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_images_labels_and_names(data_dir):
    source = open_tfds("toy_photos", str(data_dir), ("train",))
    assert "tensorflow" not in sys.modules
    assert len(source) == 5
    assert source.class_names == ("cat", "n/a")
    assert source.labels.dtype == np.int64
    assert sorted(source.labels.tolist()) == [0, 0, 0, 1, 1]
    folders = ["cat", "n_a"]
    assert source.names == tuple(
        f"{folders[label]}/train_{index:05d}.png" for index, label in enumerate(source.labels)
    )
    # TFDS shuffles what it writes: the same images in some order, each with its label.
    expected = {pixels(index).tobytes(): index % 2 for index in range(5)}
    assert {source[i].tobytes(): source.labels[i] for i in range(5)} == expected


def test_test_split_may_be_called_validation(data_dir):
    assert len(open_source("own", f"tfds:toy_photos:1.0.0:{data_dir}", "test")) == 3


def test_source_travels_to_workers(data_dir):
    source = open_tfds("toy_photos", str(data_dir), ("train",))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[3], source[3])


def test_labels_are_read_once(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path))
    passes = []
    read_labels = tfds_source._read_labels
    monkeypatch.setattr(
        tfds_source, "_read_labels", lambda *args: passes.append(args) or read_labels(*args)
    )
    first, second = (open_tfds("toy_photos", str(data_dir), ("train",)) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    assert len(passes) == 1
    assert len(open_tfds("toy_photos", str(data_dir), ("validation",))) == 3
    assert len(passes) == 2


def test_parts_of_a_split(data_dir):
    whole = open_tfds("toy_photos", str(data_dir), ("train",))
    parts = [
        open_tfds("toy_photos", str(data_dir), (part,)) for part in ("train[:60%]", "train[60%:]")
    ]
    assert [len(part) for part in parts] == [3, 2]
    assert parts[0].names + parts[1].names == whole.names
    np.testing.assert_array_equal(parts[1][0], whole[3])
    assert parts[1].labels.tolist() == whole.labels[3:].tolist()


def test_wrong_split(data_dir):
    with pytest.raises(InputError, match="found train, validation; expected test"):
        open_tfds("toy_photos", str(data_dir), ("test",))


@pytest.mark.parametrize("name", ["no_such_set", "cifar10:9.9.9", "imagenette/none"])
def test_unknown_name_ends_in_one_line(tfds, tmp_path, name):
    with pytest.raises(InputError, match=f"^tfds:{name}: ") as caught:
        open_tfds(name, str(tmp_path), ("train",))
    assert "\n" not in str(caught.value)


def test_not_prepared_says_how(tfds, tmp_path, monkeypatch):
    message = r"tfds:cifar10: not prepared in \S+; run .*tfds build cifar10 --file_format=array_rec"
    with pytest.raises(InputError, match=message) as caught:
        open_tfds("cifar10", str(tmp_path), ("train",))
    assert f"--data_dir={tmp_path}" in str(caught.value)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match="tfds:cifar10: not prepared"):
        open_source("cifar10", "", "train")


@pytest.mark.slow
def test_cifar10_prepared_is_cifar10_in_a_folder(tfds, shared_data, tmp_path):
    unpack = [sys.executable, str(shared_data / "unpack.py"), "cifar10", str(tmp_path / "folder")]
    subprocess.run(unpack, check=True)
    folders = {split: open_source("own", str(tmp_path / "folder"), split) for split in SPLITS}
    class_names = SPECS["cifar10"].class_names

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """As TFDS's own, but from the files of the folder."""

        VERSION = tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(names=class_names),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {split: self._generate_examples(split) for split in SPLITS}

        def _generate_examples(self, split):
            source = folders[split]
            for name, label in zip(source.names, source.labels, strict=True):
                image = tmp_path / "folder" / split / name
                yield name, {"image": image, "label": int(label)}

    Cifar10(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    for split, count in SPLITS.items():
        prepared = open_source("cifar10", f"tfds:cifar10:{tmp_path / 'tfds'}", split)
        assert len(prepared) == len(folders[split]) == count
        assert prepared.class_names == class_names
        # TFDS shuffles what it writes, so the images are compared as sets, each with its label.
        assert images_and_labels(prepared) == images_and_labels(folders[split])
    assert "tensorflow" not in sys.modules


SPLITS = {"train": 50_000, "test": 10_000}


def images_and_labels(source):
    return collections.Counter(
        (hashlib.sha256(source[index].tobytes()).digest(), int(source.labels[index]))
        for index in range(len(source))
    )


def test_parse_source():
    assert parse_source("cifar10") == ("cifar10", None)
    assert parse_source("cifar10:/data") == ("cifar10", "/data")
    assert parse_source("a/b:1.2.3") == ("a/b:1.2.3", None)
    assert parse_source("a/b:1.2.3:gs://x/y") == ("a/b:1.2.3", "gs://x/y")
    with pytest.raises(InputError, match="expected tfds:NAME"):
        parse_source("")
