"""array_record, read by Grain through TFDS, without TensorFlow."""

import sys

import grain
import numpy as np
import pytest
from digits_set import NAMES, write_digits

from delt_jax.export import formats


def test_grain_reads_images_and_labels(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    images, labels = write_digits(tmp_path / "distilled")
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", ["array_record"])
    builder = tfds.builder_from_directory(str(folder["array_record"]))
    examples = builder.as_data_source("train")
    assert builder.info.features["label"].names == list(NAMES)
    batches = list(grain.MapDataset.source(examples).batch(8))
    assert len(batches) == 3
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), images)
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), labels)
    assert "tensorflow" not in sys.modules


def test_names_that_a_file_of_lines_cannot_hold(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    from delt_jax.export.distilled_set import DistilledSet

    write_digits(tmp_path / "distilled")
    opened = DistilledSet.open(tmp_path / "distilled")
    opened.__dict__["class_names"] = ("a\nb", "c/d", "été")
    folder = formats.export(opened, tmp_path / "out", ["array_record"])["array_record"]
    builder = tfds.builder_from_directory(str(folder))
    assert builder.info.features["label"].names == ["a b", "c/d", "été"]
