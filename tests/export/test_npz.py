"""The .npz archive, as NumPy and our own sources read it."""

import numpy as np
from digits_set import NAMES, SIZE, write_digits

from delt_jax.data.sources import open_source
from delt_jax.export import formats


def test_our_own_source_reads_it_back(tmp_path):
    images, labels = write_digits(tmp_path / "distilled")
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", ["npz"])["npz"]
    source = open_source("own", str(folder / "distilled.npz"), "train", SIZE)
    np.testing.assert_array_equal([source[i] for i in range(len(source))], images)
    np.testing.assert_array_equal(source.labels, labels)
    assert source.class_names == NAMES
    with np.load(folder / "distilled.npz") as data:
        assert sorted(data) == ["class_names", "x_train", "y_train"]  # as it is: allow_pickle=False
        assert data["y_train"].dtype == np.int64
