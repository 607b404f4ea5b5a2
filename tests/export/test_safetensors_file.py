"""The .safetensors file, and soft labels in it."""

import json

import numpy as np
import safetensors
from digits_set import MEAN, NAMES, STD, write_digits
from safetensors.numpy import load_file

from delt_jax.export import formats
from delt_jax.export.distilled_set import DistilledSet


def test_pixels_labels_statistics_and_names(tmp_path):
    images, labels = write_digits(tmp_path / "distilled")
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", ["safetensors"])
    path = folder["safetensors"] / "distilled.safetensors"
    found = load_file(path)
    np.testing.assert_array_equal(found["images"], images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found["labels"], labels)
    assert (found["images"].dtype, found["labels"].dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(found["mean"], np.float32(MEAN))
    np.testing.assert_array_equal(found["std"], np.float32(STD))
    assert "logits" not in found
    with safetensors.safe_open(path, "np") as file:
        assert tuple(json.loads(file.metadata()["class_names"])) == NAMES


def test_soft_labels(tmp_path, monkeypatch):
    write_digits(tmp_path / "distilled")
    logits = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    monkeypatch.setattr(DistilledSet, "logits", lambda self: logits)
    options = {"labels": "soft"}
    formats.export(tmp_path / "distilled", tmp_path / "out", ["safetensors", "npz"], options)
    found = load_file(tmp_path / "out" / "safetensors" / "distilled.safetensors")
    np.testing.assert_array_equal(found["logits"], logits)
    with np.load(tmp_path / "out" / "npz" / "distilled.npz") as data:
        np.testing.assert_array_equal(data["logits_train"], logits)
