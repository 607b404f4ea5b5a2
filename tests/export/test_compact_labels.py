"""The format `labels`."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from labelled_run import EPOCHS, IMAGES, files_of, make_run, source_of

from delt_jax.core.augment.stored_views import StoredViews
from delt_jax.errors import InputError
from delt_jax.export import compact_labels
from delt_jax.export.label_coding import decode
from delt_jax.export.stored_labels import RECORD


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("compact"))[0]


def expand(tensors, row):
    """The views of an epoch as relabel stores them."""
    top, left, bottom, right = tensors["crops"][row].astype(int).T
    flips = (left > right).astype(np.uint8)
    left, right = np.minimum(left, right), np.maximum(left, right)
    crops = np.stack([top, left, bottom - top, right - left], axis=1)
    patches = tensors["patches"][row][tensors["patch_of"][row]]
    return StoredViews(crops, flips, tensors["partners"][row], patches)  # type: ignore[arg-type]


@pytest.mark.parametrize(("megabytes", "per_file"), [(256, 3), (0.0001, 1), (0.00025, 2)])
def test_holds_what_is_stored(run, tmp_path, megabytes, per_file):
    files = files_of(run)
    compact_labels.write(source_of(run), tmp_path, {"shard_megabytes": megabytes})
    record = json.loads((tmp_path / "labels" / RECORD).read_text())
    assert record["layout"]["epochs_per_file"] == per_file
    paths = sorted((tmp_path / "labels").glob("*.safetensors"))
    assert len(paths) == -(-EPOCHS // per_file)
    assert record["layout"]["bytes"] == sum(path.stat().st_size for path in paths)
    flipped = 0
    for epoch in range(EPOCHS):
        tensors = safetensors.numpy.load_file(paths[epoch // per_file])
        row = epoch % per_file
        _, labels = files.read(epoch)
        for got, expected in zip(expand(tensors, row), labels.views):
            np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(tensors["logits"][row], labels.logits)
        flipped += labels.views.flips.sum()
    assert 0 < flipped < EPOCHS * IMAGES

    assert [path.name for path in sorted(tmp_path.iterdir())] == ["labels", "train"]
    for image in source_of(run).records:
        assert (tmp_path / image.file).read_bytes() == (run.distilled / image.file).read_bytes()


def test_takes_no_byte_too_many(run, tmp_path):
    compact_labels.write(source_of(run), tmp_path, {})
    tensors = safetensors.numpy.load_file(tmp_path / "labels" / "labels_00000.safetensors")
    assert {name: (value.dtype.name, value.shape) for name, value in tensors.items()} == {
        "crops": ("uint8", (EPOCHS, IMAGES, 4)),
        "partners": ("uint8", (EPOCHS, IMAGES)),
        "patch_of": ("uint8", (EPOCHS, IMAGES)),
        "patches": ("uint8", (EPOCHS, 3, 4)),
        "logits": ("float16", (EPOCHS, IMAGES, 3)),
    }


def test_large_numbers_need_larger_integers():
    n = 70_000
    views = StoredViews(
        np.tile(np.array([0, 44, 256, 212], np.int16), (n, 1)),
        np.ones(n, np.uint8),
        np.arange(n, dtype=np.int32)[::-1],
        np.zeros((n, 4), np.int16),
    )  # type: ignore[arg-type]
    found = compact_labels.compact_views(views, 256)
    assert [found[name].dtype.name for name in ("crops", "partners", "patch_of", "patches")] == [
        *("uint16", "uint32", "uint8", "uint16")
    ]
    assert found["crops"][0].tolist() == [0, 256, 256, 44]
    assert found["partners"][0] == n - 1 and found["patches"].shape == (1, 4)


def test_fewer_logits_travel_as_they_are_kept(tmp_path):
    run, _ = make_run(tmp_path, epochs=2, top_k=1, dtype="int8")
    compact_labels.write(source_of(run), tmp_path / "out", {})
    tensors = safetensors.numpy.load_file(tmp_path / "out/labels/labels_00000.safetensors")
    names = ("logits", "indices", "scales")
    assert [(tensors[n].dtype.name, tensors[n].shape) for n in names] == [
        *(("int8", (2, IMAGES, 2)), ("uint8", (2, IMAGES, 1)), ("float16", (2, IMAGES)))
    ]
    for epoch in range(2):
        one = {name: tensors[name][epoch] for name in names}
        expected = files_of(run).read(epoch)[1].logits
        np.testing.assert_array_equal(decode(one, 3), expected)
    # The teacher's own, to what the coding loses.
    (tmp_path / "whole").mkdir()
    whole, _ = make_run(tmp_path / "whole")
    true = files_of(whole).read(0)[1].logits.astype(np.float32)
    got = decode({name: tensors[name][0] for name in names}, 3)
    np.testing.assert_array_equal(got.argmax(axis=1), true.argmax(axis=1))


def test_what_cannot_be_exported_is_named(run, tmp_path):
    source = source_of(run)
    source.workdir = None
    with pytest.raises(InputError, match="distilled: no work directory around it"):
        compact_labels.write(source, tmp_path / "a", {})
    source = source_of(run)
    source.records = source.records[:8]
    with pytest.raises(InputError, match="labels of 9 images; expected 8"):
        compact_labels.write(source, tmp_path / "b", {})
    copied = tmp_path / "run"
    shutil.copytree(run.path, copied)
    workdir = type(run)(copied)
    (workdir.labels / "epoch_0001.safetensors").unlink()
    with pytest.raises(InputError, match=r"epoch_0001\.safetensors: cannot be read"):
        compact_labels.write(source_of(workdir), tmp_path / "c", {})
    record = workdir.read_json(workdir.labels / RECORD)
    workdir.write_json(workdir.labels / RECORD, {**record, "mode": "online"})
    with pytest.raises(InputError, match=r"labels\.json: mode 'online'; expected stored"):
        compact_labels.write(source_of(workdir), tmp_path / "d", {})
    (workdir.labels / RECORD).unlink()
    with pytest.raises(InputError, match=r"labels\.json: not there"):
        compact_labels.write(source_of(workdir), tmp_path / "e", {})
    assert not (tmp_path / "e").exists()
