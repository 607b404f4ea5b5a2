"""Image sources, fed with damaged files, other arrays and folders of strange names."""

import contextlib
import io
import os
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import STRANGE_NAMES, mutated, nothing_appears, only_clear_errors
from PIL import Image

from delt_jax.data.decoding import decode
from delt_jax.data.sources import open_source

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")


def encoded(kind):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


FILES = {kind: encoded(kind) for kind in KINDS}


def read_all(source, name="strange"):
    """Opens both splits and reads every image."""
    for split in ("train", "test"):
        with only_clear_errors():
            opened = open_source(name, str(source), split)
            assert len(opened) == len(opened.labels) == len(opened.names)
            assert len(set(opened.names)) == len(opened)
            for index in range(len(opened)):
                with only_clear_errors():
                    image = opened[index]
                    assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much before it raises
@given(st.sampled_from(KINDS).flatmap(lambda kind: mutated(FILES[kind])) | st.binary(max_size=64))
def test_damaged_images(data):
    with only_clear_errors():
        image = decode(data, "image")
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("around")
    for name in ("damaged.npz", "other.npz"):
        (folder / name).touch()
    yield folder
    shutil.rmtree(folder / "images", ignore_errors=True)
    found = {path.name for path in folder.rglob("*") if path.is_file()}
    assert found <= {"damaged.npz", "other.npz", "train.parquet", "test.parquet", *SHARDS}


SHARDS = tuple(f"{split}-00000-of-00001.parquet" for split in ("train", "test"))


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


SOUND = {
    "x_train": np.stack([PIXELS] * 2),
    "y_train": np.arange(2),
    "x_test": np.stack([PIXELS] * 2),
    "y_test": np.arange(2),
    "class_names": np.array(["a", "b"]),
}


@given(data=mutated(archive(**SOUND)))
def test_damaged_archives(folder, data):
    path = folder / "damaged.npz"
    path.write_bytes(data)
    read_all(path)


DTYPES = ("u1", "i8", "f4", "?", "U3", "S3", "M8[s]", "c8", "u8", "V4", "O")


@given(st.data())
def test_other_arrays(folder, data):
    arrays = dict(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from((*SOUND, "else", "../x")))
        shape = tuple(data.draw(st.lists(st.integers(0, 3), max_size=5)))
        dtype = data.draw(st.sampled_from(DTYPES))
        array = np.zeros(shape, dtype)
        if dtype in ("i8", "u8") and array.size:
            array.flat[0] = data.draw(st.sampled_from((0, 1, 2, 2**31, 2**62)))
        if name in arrays and data.draw(st.booleans()):
            del arrays[name]
        else:
            arrays[name] = array
    path = folder / "other.npz"
    path.write_bytes(archive(**arrays))
    read_all(path)


labels = st.lists(
    st.sampled_from((-1, 0, 1, 2**20, 2**31, 2**40, 2**62, 2**63, 2**64 - 1)),
    min_size=2,
    max_size=2,
)


@given(labels, labels, st.sampled_from(("npz", "parquet")))
def test_any_labels_of_classes_without_names(folder, train, test, kind):
    numbers = {"train": np.array(train), "test": np.array(test)}  # of whatever type holds them
    if kind == "npz":
        path = folder / "other.npz"
        arrays = {name: SOUND[name] for name in ("x_train", "x_test")}
        path.write_bytes(archive(**arrays, **{f"y_{name}": numbers[name] for name in numbers}))
        read_all(path)
        return
    root = folder / "columns"
    root.mkdir(exist_ok=True)
    images = pa.array([{"bytes": FILES["PNG"], "path": "x.png"}] * 2)
    for split, found in numbers.items():
        with contextlib.suppress(pa.ArrowException):  # no column takes these
            rows = pa.table({"image": images, "label": pa.array(found)})
            pq.write_table(rows, root / f"{split}.parquet")
    read_all(root)


def parquet(labels=(0, 1), images=None, names=("a", "b")):
    images = [{"bytes": FILES["PNG"], "path": "x.png"}] * len(labels) if images is None else images
    table = pa.table({"image": images, "label": pa.array(labels)})
    about = '{"info": {"features": {"label": {"_type": "ClassLabel", "names": %s}}}}'
    table = table.replace_schema_metadata(
        {"huggingface": about % str(list(names)).replace("'", '"')}
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


@given(data=mutated(parquet()))
def test_damaged_parquet(folder, data):
    root = folder / "parquet"
    root.mkdir(exist_ok=True)
    for shard in SHARDS:
        (root / shard).write_bytes(data)
    read_all(root)


columns = st.sampled_from(
    (
        pa.array([0, 1]),
        pa.array([0, None]),
        pa.array([-1, 2**40]),
        pa.array([0.5, 1.5]),
        pa.array(["a", "b"]),
        pa.array([b"x", None]),
        pa.array([FILES["PNG"], FILES["JPEG"][:50]]),
        pa.array([{"bytes": FILES["PNG"], "path": "../x"}, {"bytes": None, "path": None}]),
        pa.array([{"bytes": [1, 2]}, None]),
        pa.array([[0], [1]]),
        pa.array([None, None]),
        pa.array([2**63, 1], pa.uint64()),
        pa.array([True, False]),
    )
)


@given(
    st.dictionaries(st.sampled_from(("image", "label", "fine_label", "x", "")), columns),
    st.text(max_size=10) | st.just('{"info": {"features": {"label": {"_type": "ClassLabel"}}}}'),
)
def test_other_columns(folder, found, about):
    root = folder / "columns"
    root.mkdir(exist_ok=True)
    table = pa.table(found).replace_schema_metadata({"huggingface": about})
    for split in ("train", "test"):
        pq.write_table(table, root / f"{split}.parquet")
    read_all(root)


entries = st.lists(
    st.tuples(
        st.sampled_from(("train", "test", "val", ".", "a", "b")),
        st.sampled_from(STRANGE_NAMES) | st.text(max_size=6),
        st.sampled_from(("x.png", "x.jpg", ".x.png", "x.txt", "é.PNG", "a b.gif", "x.png.png")),
        st.sampled_from(("image", "damaged", "empty", "folder", "link", "loop")),
    ),
    max_size=6,
)


@given(entries)
def test_folders_of_strange_names(folder, found):
    root = folder / "images"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for split, class_name, name, kind in found:
        path = root / split / class_name / name
        if not _is_inside(path, root):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind in ("link", "loop"):
                path.symlink_to("/etc/hostname" if kind == "link" else path.parent)
            else:
                contents = {"image": FILES["PNG"], "damaged": FILES["PNG"][:40], "empty": b""}
                path.write_bytes(contents[kind])
        except (OSError, ValueError):  # a name that this file system does not take
            continue
    with nothing_appears(folder):
        read_all(root)


def _is_inside(path: pathlib.Path, root: pathlib.Path) -> bool:
    return str(os.path.normpath(path)).startswith(f"{root}{os.sep}")
