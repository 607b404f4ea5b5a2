"""WebDataset shards, read with the package and with tarfile."""

import io
import json
import tarfile

import numpy as np
import pytest
from digits_set import NAMES, write_digits
from PIL import Image

from delt_jax.export import formats


def export(tmp_path, **options):
    return formats.export(tmp_path / "distilled", tmp_path / "out", ["webdataset"], options)[
        "webdataset"
    ]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


# The package leaves it to the garbage collector to close its shards.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_the_package_reads_every_image_with_its_class(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    images, labels = write_digits(tmp_path / "distilled")
    shards = [str(path) for path in sorted(export(tmp_path).glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(samples) == 24
    numbers = []
    for sample in samples:
        about = json.loads(sample["json"])
        numbers.append(about["number"])
        np.testing.assert_array_equal(pixels(sample["png"]), images[about["number"]])
        assert int(sample["cls"]) == labels[about["number"]]
        assert about["class_name"] == NAMES[int(sample["cls"])]
        assert sample["__key__"] == f"class{int(sample['cls']):03d}_id{about['slot']:03d}"
    assert sorted(numbers) == list(range(24)) and numbers != sorted(numbers)


def test_the_same_set_gives_the_same_shards(tmp_path):
    write_digits(tmp_path / "distilled")
    first = (export(tmp_path) / "train-000000.tar").read_bytes()
    assert (export(tmp_path) / "train-000000.tar").read_bytes() == first


def test_shards_end_at_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr("delt_jax.export.webdataset.MEGABYTE", 10_000)
    write_digits(tmp_path / "distilled")
    folder = export(tmp_path, shard_megabytes=1)
    shards = sorted(folder.glob("*.tar"))
    assert [path.name for path in shards][:2] == ["train-000000.tar", "train-000001.tar"]
    keys = []
    for path in shards:
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert len(names) % 3 == 0  # no sample is cut in two
        keys += [name for name in names if name.endswith(".cls")]
    assert len(set(keys)) == len(keys) == 24


def test_jpeg(tmp_path):
    write_digits(tmp_path / "distilled", format="jpg", quality=75)
    with tarfile.open(export(tmp_path) / "train-000000.tar") as tar:
        suffixes = {name.rpartition(".")[2] for name in tar.getnames()}
    assert suffixes == {"cls", "json", "jpg"}
