"""Parquet files with a card, read with `datasets` offline and by our own source."""

import numpy as np
import pytest
from digits_set import NAMES, SIZE, write_digits

from delt_jax.data.sources import open_source
from delt_jax.export import formats


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """The library, without a network, its cache in a folder of the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return pytest.importorskip("datasets")


def export(tmp_path, **options):
    return formats.export(tmp_path / "distilled", tmp_path / "out", ["huggingface"], options)[
        "huggingface"
    ]


@pytest.mark.parametrize("shard_bytes", [1_000_000, 2_000])
def test_datasets_reads_images_labels_and_names(tmp_path, datasets, monkeypatch, shard_bytes):
    monkeypatch.setattr("delt_jax.export.huggingface.MEGABYTE", shard_bytes)
    images, labels = write_digits(tmp_path / "distilled")
    folder = export(tmp_path, shard_megabytes=1)
    files = sorted(path.name for path in (folder / "data").iterdir())
    assert files[-1] == f"train-{len(files) - 1:05d}-of-{len(files):05d}.parquet"
    assert (len(files) > 1) == (shard_bytes == 2_000)
    train = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(train.features["image"], datasets.Image)
    assert train.features["label"].names == list(NAMES)
    np.testing.assert_array_equal([np.asarray(row["image"]) for row in train], images)
    assert train["label"][:] == labels.tolist()


def test_the_files_alone_say_what_their_columns_are(tmp_path, datasets):
    write_digits(tmp_path / "distilled")
    path = str(next((export(tmp_path) / "data").iterdir()))
    train = datasets.load_dataset(
        "parquet", data_files=path, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert train.features["label"].names == list(NAMES)
    assert train[0]["image"].size == (SIZE, SIZE)


def test_our_own_source_reads_it_back(tmp_path):
    images, labels = write_digits(tmp_path / "distilled")
    source = open_source("own", str(export(tmp_path)), "train", SIZE)
    np.testing.assert_array_equal([source[i] for i in range(len(source))], images)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.class_names == NAMES


def test_the_card_begins_with_what_the_hub_reads(tmp_path):
    yaml = pytest.importorskip("yaml")
    write_digits(tmp_path / "distilled")
    _, front, body = (export(tmp_path) / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    names = found["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert names == {str(k): name for k, name in enumerate(NAMES)}
    assert body.lstrip().startswith("# digits, distilled: 8 images per class")
