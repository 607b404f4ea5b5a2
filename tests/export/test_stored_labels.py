"""Files of stored labels."""

import numpy as np
import pytest
import safetensors.numpy

from delt_jax.core.augment.stored_views import StoredLabels, StoredViews
from delt_jax.errors import InputError
from delt_jax.export.label_coding import LabelCoding, decode
from delt_jax.export.stored_labels import LabelFiles, stored_bytes


def labels():
    views = StoredViews(
        np.arange(12, dtype=np.int16).reshape(3, 4),
        np.array([0, 1, 0], np.uint8),
        np.array([2, 0, 1], np.int32),
        np.arange(12, dtype=np.int16)[::-1].reshape(3, 4),
    )
    logits = np.array([[0.5, -1], [2, 3], [-4, 8]], np.float16)
    return np.array([1, 2, 0], np.int32), StoredLabels(views, logits)


def test_reads_what_it_wrote(tmp_path):
    files = LabelFiles(tmp_path / "labels", 2, "abc")
    order, written = labels()
    files.write(1, order, written)
    assert files.path(1).name == "epoch_0001.safetensors"
    assert (files.holds(0), files.holds(1)) == (False, True)
    read_order, read = files.read(1)
    np.testing.assert_array_equal(read_order, order)
    for got, expected in zip((*read.views, read.logits), (*written.views, written.logits)):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype

    # The layout that other readers rely on.
    tensors = safetensors.numpy.load_file(files.path(1))
    assert {name: (value.dtype.name, value.shape) for name, value in tensors.items()} == {
        "order": ("int32", (3,)),
        "crops": ("int16", (3, 4)),
        "flips": ("uint8", (3,)),
        "partners": ("int32", (3,)),
        "patches": ("int16", (3, 4)),
        "logits": ("float16", (3, 2)),
    }
    assert stored_bytes(5, 3, 2) == 5 * sum(value.nbytes for value in tensors.values())


@pytest.mark.parametrize("coding", [LabelCoding(1, "float16", 20.0), LabelCoding(0, "int8")])
def test_reads_what_was_kept(tmp_path, coding):
    files = LabelFiles(tmp_path, 1, "abc", coding)
    order, written = labels()
    files.write(0, order, written)
    _, read = files.read(0)
    np.testing.assert_array_equal(read.logits, decode(coding.encode(written.logits), 2))
    np.testing.assert_array_equal(read.views.crops, written.views.crops)
    _, views, kept = files.read_encoded(0)
    np.testing.assert_array_equal(views.patches, written.views.patches)
    for name, array in coding.encode(written.logits).items():
        np.testing.assert_array_equal(kept.pop(name), array)
    assert not kept
    tensors = safetensors.numpy.load_file(files.path(0))
    assert stored_bytes(1, 3, 2, coding) == sum(value.nbytes for value in tensors.values())
    # Whoever reads a file need not know how it was written.
    np.testing.assert_array_equal(LabelFiles(tmp_path, 1, "abc").read(0)[1].logits, read.logits)


def test_what_does_not_belong_is_named(tmp_path):
    files = LabelFiles(tmp_path, 3, "abc")
    files.write(0, *labels())
    with pytest.raises(InputError, match=r"epoch_0001\.safetensors: cannot be read"):
        files.read(1)
    other = LabelFiles(tmp_path, 3, "def")
    assert not other.holds(0)
    with pytest.raises(InputError, match="of another set, teacher or options"):
        other.read(0)
    files.path(0).rename(files.path(2))  # another epoch's
    assert not files.holds(2)
    files.path(1).write_bytes(files.path(2).read_bytes()[:40])
    assert not files.holds(1)
    with pytest.raises(InputError, match=r"epoch_0001\.safetensors: cannot be read"):
        files.read(1)
