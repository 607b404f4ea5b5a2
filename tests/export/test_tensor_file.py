"""Safetensors files of the same bytes."""

import hashlib

import numpy as np
import safetensors
import safetensors.numpy

from delt_jax.export.tensor_file import tensor_file

TENSORS = {"b": np.arange(6, dtype=np.int16).reshape(2, 3), "a": np.ones(3, np.uint8)}
METADATA = {"schema": "é", "epoch": "3", "classes": "10", "fingerprint": "abc", "more": "text"}


def test_is_read_as_the_library_reads_its_own(tmp_path):
    path = tmp_path / "some.safetensors"
    path.write_bytes(tensor_file(TENSORS, METADATA))
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == METADATA
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


def test_its_bytes_are_decided_by_what_it_holds():
    data = tensor_file(TENSORS, METADATA)
    # Those of another process: the library's order of the metadata is another one in each.
    expected = "d31b61b71aefaeb4"
    assert hashlib.sha256(data).hexdigest()[:16] == expected
    assert data == tensor_file(TENSORS, dict(reversed(METADATA.items())))
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_only_the_order_of_the_metadata_is_not_the_librarys():
    ours, theirs = tensor_file(TENSORS, METADATA), safetensors.numpy.save(TENSORS, METADATA)
    assert len(ours) == len(theirs)
    assert sorted(ours) == sorted(theirs)
