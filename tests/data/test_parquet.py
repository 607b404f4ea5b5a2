"""Parquet folders as the Hugging Face Hub has them, written here with pyarrow."""

import errno
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.pipeline import batches
from delt_jax.data.sources import describe, open_source
from delt_jax.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
parquet = pytest.importorskip("delt_jax.data.parquet")


def pixels(index):
    return np.random.default_rng(index).integers(0, 256, (7, 8, 3), np.uint8)


def png(index):
    file = io.BytesIO()
    Image.fromarray(pixels(index)).save(file, "PNG")
    return file.getvalue()


def table(indices, labels, names=("cat", "n/a"), image="image", label="label"):
    """Rows as the library `datasets` writes them, its metadata included."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": png(index), "path": f"{index}.png"} for index in indices]
    columns = {image: pa.array(images, struct), label: pa.array(labels, pa.int64())}
    features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
    about = {"info": {"features": features}}
    metadata = {b"huggingface": json.dumps(about).encode()} if names else None
    return pa.table(columns).replace_schema_metadata(metadata)


def write(rows, path, group=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=group)


@pytest.fixture
def folder(tmp_path):
    """Ten training images in three files of row groups of three, four test images."""
    for part, indices in enumerate((range(4), range(4, 8), range(8, 10))):
        labels = [index % 2 for index in indices]
        write(table(indices, labels), tmp_path / "data" / f"train-0000{part}-of-00003.parquet")
    write(table(range(10, 14), [0, 1, 1, 0]), tmp_path / "data" / "test-00000-of-00001.parquet")
    return tmp_path


def test_images_labels_and_names(folder):
    source = open_source("own", str(folder), "train")
    assert len(source) == 10
    assert source.class_names == ("cat", "n/a")
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 1] * 5
    assert source.names[:2] == ("cat/train_00000.png", "n_a/train_00001.png")
    for index in (9, 0, 4, 3, 7, 8):
        np.testing.assert_array_equal(source[index], pixels(index))
    with pytest.raises(IndexError):
        source[10]
    test = open_source("own", str(folder), "test")
    assert test.labels.tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(test[3], pixels(13))


def test_files_beside_each_other_and_folders_by_split(tmp_path):
    write(table([1], [0]), tmp_path / "flat" / "train.parquet")
    write(table([2], [0]), tmp_path / "flat" / "validation.parquet")
    write(table([1], [0]), tmp_path / "split" / "train" / "0000.parquet")
    write(table([2], [0]), tmp_path / "split" / "valid" / "0000.parquet")
    for name in ("flat", "split"):
        assert len(open_source("own", str(tmp_path / name), "train")) == 1
        test = open_source("own", str(tmp_path / name), "test")
        np.testing.assert_array_equal(test[0], pixels(2))


def test_what_programs_leave_beside_the_files_is_ignored(folder):
    (folder / "data" / "._train-00000-of-00003.parquet").write_bytes(b"?")
    (folder / "train").mkdir()
    (folder / "train" / "._0000.parquet").write_bytes(b"?")
    assert len(open_source("own", str(folder), "train")) == 10


def test_only_the_latest_row_groups_are_held(folder, monkeypatch):
    source = open_source("own", str(folder), "train")
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, *rest, **options: (
            read.append(group) or original(self, group, *rest, **options)
        ),
    )
    for index in range(10):
        source[index]
    assert read == [0, 1, 0, 1, 0]  # each of the files' groups once
    monkeypatch.setattr(parquet, "_HELD_BYTES", 0)
    for index in (0, 9, 0, 9):
        source[index]
    assert len(source._held) == 1


def test_source_travels_to_workers(folder):
    source = open_source("own", str(folder), "train")
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[5], pixels(5))
    order = [3, 9, 1, 1]
    found = np.concatenate([batch.images for batch in batches(source, order, 3, 7, threads=2)])
    alone = np.concatenate([batch.images for batch in batches(copy, order, 3, 7, threads=0)])
    np.testing.assert_array_equal(found, alone)


def test_class_names_from_the_table_or_by_number(tmp_path):
    rows = table([0, 1], [0, 1], names=None)
    write(rows, tmp_path / "train.parquet")
    write(table([2], [0], names=None), tmp_path / "test.parquet")
    assert open_source("own", str(tmp_path), "test").class_names == ("0", "1")
    assert open_source("cifar10", str(tmp_path), "train").class_names[:2] == (
        "airplane",
        "automobile",
    )


def test_classes_are_not_counted_up_to_any_label(tmp_path):
    write(table([0, 1], [0, 2**40], names=None), tmp_path / "train.parquet")
    write(table([2], [0], names=None), tmp_path / "test.parquet")
    for split in ("train", "test"):
        with pytest.raises(InputError, match=r"label 1099511627776; expected labels from 0 to 999"):
            open_source("own", str(tmp_path), split)


def test_classes_of_one_name_are_told_apart(tmp_path):
    write(table([0, 1], [0, 1], names=("crane", "crane")), tmp_path / "train.parquet")
    assert open_source("own", str(tmp_path), "train").class_names == ("crane", "crane (class 1)")


def test_a_test_split_without_labels_is_passed_over(tmp_path):
    write(table([0], [0]), tmp_path / "train.parquet")
    write(table([1], [-1]), tmp_path / "test.parquet")
    write(table([2], [1]), tmp_path / "validation.parquet")
    assert open_source("own", str(tmp_path), "test").names == ("n_a/validation_00000.png",)


@pytest.mark.parametrize(
    "rows",
    [
        pa.table({"image": [b"?"]}),
        pa.table({"image": [b"?"], "id": [0]}),
        pa.table({"image": [b"?"], "id": ["0"]}),
        pa.table({"image": [b"?"], "label": pa.nulls(1, pa.int64())}),
        pa.table({"image": [b"?"], "label": pa.nulls(1, pa.string())}),
    ],
)
def test_a_test_split_with_no_label_at_all_is_passed_over(tmp_path, rows, caplog):
    write(table([0], [0]), tmp_path / "train.parquet")
    write(rows, tmp_path / "test.parquet")
    with pytest.raises(InputError, match=r"test\.parquet: "):
        open_source("own", str(tmp_path), "test")
    write(table([2], [1]), tmp_path / "validation.parquet")
    assert open_source("own", str(tmp_path), "test").names == ("n_a/validation_00000.png",)
    assert "passed over, validation is the test split" in caplog.text


def test_columns_of_other_names_and_kinds(tmp_path):
    rows = table([0, 1], [0, 1], image="img", label="fine_label")
    rows = rows.append_column("coarse_label", pa.array([5, 6]))
    rows = rows.append_column("url", pa.array(["a", "b"]))
    write(rows, tmp_path / "a" / "train.parquet")
    source = open_source("own", str(tmp_path / "a"), "train")
    assert source.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(source[1], pixels(1))
    plain = pa.table({"label": pa.array([0], pa.uint8()), "jpg": pa.array([png(3)])})
    write(plain, tmp_path / "b" / "train.parquet")
    np.testing.assert_array_equal(open_source("own", str(tmp_path / "b"), "train")[0], pixels(3))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.table({"text": ["a"], "label": [0]}), "columns text: string, label: int64; expected o"),
        (pa.table({"image": [b"a"], "caption": ["a"]}), "columns image: binary, caption: string"),
        (pa.table({"image": [b"a"], "image_id": [0], "species": ["ant"]}),
            "image_id: int64, species: string; expected one image .* called label, class or"),
        (pa.table({"image": [b"a"], "label": [0.5]}), "label: double; expected one image"),
        (table([0, 1], [1, 2]), r"label 2; expected 0 to 1, of 2 classes \(do they begin"),
        (table([0, 1], [1, 255]), r"label 255; .* \(255 mostly stands for no label, -1"),
        (table([0, 1], [1, 2], names=None), "labels from 1 to 2, none of class 0; expected label"),
        (table([0], [0], names=("a\u0308", "\u00e4")), "are one name, 'ä', in two Unicode forms"),
        (pa.table({"image": [b"a"], "label": [2, None][1:]}).cast(
            pa.schema([("image", pa.binary()), ("label", pa.int64())])), "1 rows without a label"),
        (pa.table({"image": [b"a"], "label": [-1]}), "label -1; expected labels from 0"),
        (table([0], [2]), "label 2; expected 0 to 1, of 2 classes"),
        (table([], []), "no rows; expected labels from 0"),
    ],
)  # fmt: skip
def test_wrong_rows_end_in_one_line(tmp_path, rows, message):
    write(rows, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message) as caught:
        open_source("own", str(tmp_path), "train")
    assert "\n" not in str(caught.value)


def test_wrong_files_end_in_one_line(folder):
    data = folder / "data"
    (data / "test-00000-of-00001.parquet").rename(data / "extra.parquet")
    with pytest.raises(InputError, match="no test split, found files of no split, train; exp"):
        open_source("own", str(folder), "test")
    (data / "test.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(InputError, match=r"test\.parquet: cannot be read as Parquet \("):
        open_source("own", str(folder), "test")
    rows = table(range(4), [0] * 4, names=("dog",))
    write(rows, data / "train-00002-of-00003.parquet")
    with pytest.raises(InputError, match=r"train-00002\S*: columns .*expected those of .*00000-of"):
        open_source("own", str(folder), "train")


def test_an_image_that_is_not_there_or_damaged(tmp_path):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": None, "path": "a.png"}, {"bytes": b"text", "path": "b.png"}, None]
    write(
        pa.table({"image": pa.array(images, struct), "label": [0, 0, 0]}),
        tmp_path / "train.parquet",
    )
    source = open_source("own", str(tmp_path), "train")
    with pytest.raises(InputError, match=r"image 0/train_00000\.png: has no bytes"):
        source[0]
    with pytest.raises(InputError, match=r"image 0/train_00001\.png: cannot be read \(no known"):
        source[1]
    with pytest.raises(InputError, match=r"image 0/train_00002\.png: has no bytes"):
        source[2]


def test_damage_inside_a_file_is_an_image_that_cannot_be_read(folder):
    file = folder / "data" / "test-00000-of-00001.parquet"
    source = open_source("own", str(folder), "test")
    damaged = bytearray(file.read_bytes())
    damaged[4:40] = b"\xff" * 36  # the header of the first page
    file.write_bytes(damaged)
    with pytest.raises(InputError, match=r"image cat/test_00000\.png in \S+: cannot be read"):
        source[0]


@pytest.mark.parametrize("error", [OSError(errno.EIO, ""), pa.ArrowMemoryError("malloc")])
def test_what_the_machine_fails_to_deliver_is_no_broken_file(folder, monkeypatch, error):
    def fail(*_, **__):
        raise error

    source = open_source("own", str(folder), "test")
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", fail)
        with pytest.raises(type(error)):
            source[0]
    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(type(error)):
        open_source("own", str(folder), "test")
    if isinstance(error, OSError):
        assert error.filename == str(folder / "data" / "test-00000-of-00001.parquet")


def test_a_table_beside_an_image_folder_is_not_the_source(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "1.png").write_bytes(png(1))
    pq.write_table(pa.table({"file_name": ["train/a/1.png"]}), tmp_path / "metadata.parquet")
    assert open_source("own", str(tmp_path), "train").names == ("a/1.png",)


def test_described_as_any_other_source(folder):
    spec = describe("own", str(folder))
    assert (spec.num_classes, spec.image_size, spec.class_names) == (2, 32, ("cat", "n/a"))


def test_splits_are_matched_by_name(tmp_path):
    write(table(range(3), [0, 1, 2], names=("ant", "bee", "cow")), tmp_path / "train.parquet")
    write(table(range(4), [0, 1, 2, 2], names=("cow", "bee", "ant")), tmp_path / "test.parquet")
    test = open_source("own", str(tmp_path), "test")
    assert test.class_names == ("ant", "bee", "cow")
    assert test.labels.tolist() == [2, 1, 0, 0]
    assert test.names[0] == "cow/test_00000.png"
    np.testing.assert_array_equal(test[3], pixels(3))


def test_a_test_class_that_is_not_trained_is_named(tmp_path):
    write(table(range(2), [0, 1], names=("ant", "bee")), tmp_path / "train.parquet")
    write(table(range(2), [0, 1], names=("ant", "dog")), tmp_path / "test.parquet")
    with pytest.raises(
        InputError, match=r"test\.parquet: label: class 1 is 'dog', which is none of"
    ):
        open_source("own", str(tmp_path), "test")


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path):
    write(table(range(2), [0, 1], names=("eel", "caf\u00e9")), tmp_path / "train.parquet")
    write(table(range(2), [0, 1], names=("cafe\u0301", "eel")), tmp_path / "test.parquet")
    test = open_source("own", str(tmp_path), "test")
    assert (test.class_names, test.labels.tolist()) == (("eel", "caf\u00e9"), [1, 0])


def test_names_that_one_split_has_are_those_of_both(tmp_path):
    for named, other in (("train", "test"), ("test", "train")):
        folder = tmp_path / named
        write(table(range(2), [0, 1], names=("dog", "cat")), folder / f"{named}.parquet")
        write(table(range(2), [1, 0], names=None), folder / f"{other}.parquet")
        test = open_source("own", str(folder), "test")
        assert test.class_names == ("dog", "cat")
        assert test.labels.tolist() == ([1, 0] if other == "test" else [0, 1])


@pytest.mark.parametrize("texts", [["owl", "ant"], ["10", "2"]])
@pytest.mark.parametrize("split", ["train", "test"])
def test_names_and_numbers_without_names_are_not_matched(tmp_path, texts, split):
    for name in ("train", "test"):
        labels = texts if name == split else [0, 1]
        rows = {"image": [png(0), png(1)], "label": labels}
        write(pa.table(rows), tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"label has numbers without names, and in \S+ names; exp"):
        open_source("own", str(tmp_path), "test")


def test_names_that_two_classes_share_are_not_matched(tmp_path):
    names = ("crane", "dog", "crane")
    write(table(range(3), [0, 1, 2], names=names), tmp_path / "train.parquet")
    write(table(range(3), [0, 1, 2], names=names), tmp_path / "test.parquet")
    assert open_source("own", str(tmp_path), "test").labels.tolist() == [0, 1, 2]
    names = ("dog", "crane", "crane")
    write(table(range(3), [0, 1, 2], names=names), tmp_path / "test.parquet")
    with pytest.raises(InputError, match="two classes are called 'crane' and the order"):
        open_source("own", str(tmp_path), "test")


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("name", ["label", "Class"])
def test_texts_are_classes_beside_a_row_number(tmp_path, kind, name):
    for split, labels in (("train", ["bee", "ant", "cow"]), ("test", ["cow", "ant"])):
        columns = {
            "image": pa.array([png(k) for k in range(len(labels))]),
            "image_id": pa.array(range(len(labels))),
            name: pa.array(labels).cast(kind),
        }
        write(pa.table(columns), tmp_path / f"{split}.parquet")
    train, test = (open_source("own", str(tmp_path), split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("ant", "bee", "cow")
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 0, 2], [2, 0])
    np.testing.assert_array_equal(train[1], pixels(1))


def test_a_number_is_the_class_where_it_is_called_so_or_alone(tmp_path):
    rows = {"image": [png(0), png(1)], "index": [7, 8], "target": [1, 0]}
    write(pa.table(rows), tmp_path / "a" / "train.parquet")
    assert open_source("own", str(tmp_path / "a"), "train").labels.tolist() == [1, 0]
    rows = {"image": [png(0), png(1)], "number": [1, 0], "__index_level_0__": [5, 6]}
    write(pa.table(rows), tmp_path / "b" / "train.parquet")
    assert open_source("own", str(tmp_path / "b"), "train").labels.tolist() == [1, 0]


def test_test_files_that_are_training_files_are_refused(tmp_path):
    write(table(range(2), [0, 1]), tmp_path / "train.parquet")
    (tmp_path / "test.parquet").symlink_to(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"test\.parquet and \S*train\.parquet are the same file"):
        open_source("own", str(tmp_path), "test")
