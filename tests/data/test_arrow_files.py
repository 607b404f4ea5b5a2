"""Folders that `datasets.save_to_disk` writes, written here with pyarrow."""

import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.sources import open_source
from delt_jax.errors import InputError

pa = pytest.importorskip("pyarrow")


def pixels(index):
    return np.full((5, 6, 3), index, np.uint8)


def save(folder, indices, labels, batch=2, **state):
    """A Dataset as the library saves it, in two files."""
    folder.mkdir(parents=True)
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    names = []
    for part in range(2):
        rows = []
        for index in indices[part::2]:
            file = io.BytesIO()
            Image.fromarray(pixels(index)).save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {"image": pa.array(rows, struct), "label": pa.array(labels[part::2], pa.int64())}
        table = pa.table(columns).replace_schema_metadata(metadata)
        names.append(f"data-0000{part}-of-00002.arrow")
        with pa.ipc.new_stream(str(folder / names[-1]), table.schema) as stream:
            stream.write_table(table, max_chunksize=batch)
    content = {"_data_files": [{"filename": name} for name in names], **state}
    (folder / "state.json").write_text(json.dumps(content))
    (folder / "dataset_info.json").write_text("{}")


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "saved" / "train", range(7), [0, 1, 0, 1, 0, 1, 1])
    save(tmp_path / "saved" / "validation", range(10, 13), [1, 0, 1])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    return tmp_path / "saved"


def test_a_saved_dataset_dict(saved):
    train, test = (open_source("own", str(saved), split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]  # of the one file, then of the other
    assert test.labels.tolist() == [1, 1, 0]
    for index, value in enumerate([0, 2, 4, 6, 1, 3, 5]):
        np.testing.assert_array_equal(train[index], pixels(value))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(test))[1], pixels(12))


def test_what_the_library_itself_has_saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(pixels(index)) for index in range(4)]
    made = datasets.Dataset.from_dict({"image": images, "label": [1, 0, 1, 0]})
    made = made.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    datasets.DatasetDict(train=made, test=made.select([2, 1])).save_to_disk(str(tmp_path / "saved"))
    test = open_source("own", str(tmp_path / "saved"), "test")
    assert test.class_names == ("cat", "dog")
    assert test.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(test[0], pixels(2))
    with pytest.raises(
        InputError, match="a single Dataset of save_to_disk; expected a DatasetDict"
    ):
        open_source("own", str(tmp_path / "saved" / "train"), "train")


def test_damaged_files_are_named(saved):
    file = saved / "train" / "data-00001-of-00002.arrow"
    data = file.read_bytes()
    for damaged in (b"", b"?" * 100, data[: len(data) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"data-00001-of-00002\.arrow: cannot be read as Arrow"
        ):
            open_source("own", str(saved), "train")
    file.unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00002\.arrow: cannot be read as Arrow"):
        open_source("own", str(saved), "train")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../../other.arrow"}]}, "expected names of files beside it"),
        ({"_data_files": []}, "expected names of files beside it"),
        ({"_data_files": 5}, "cannot be read as that of save_to_disk"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "rows chosen by an indices file"),
    ],
)
def test_a_strange_state_is_refused(tmp_path, state, message):
    save(tmp_path / "train", range(2), [0, 1], **state)
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(InputError, match=message) as caught:
        open_source("own", str(tmp_path), "train")
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_there_is_named(saved):
    (saved / "validation").rename(saved / "extra")
    with pytest.raises(InputError, match="no test split, found extra, train"):
        open_source("own", str(saved), "test")
