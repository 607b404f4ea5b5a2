"""The distilled ImageFolder: names, bytes, and reading it back."""

import io
import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from delt_jax.data import threads
from delt_jax.errors import InputError
from delt_jax.export import image_folder
from delt_jax.export.image_folder import (
    class_folders,
    read_distilled,
    to_uint8,
    write_images,
)
from delt_jax.export.manifest import ImageRecord, write_manifest

RECORDS = (ImageRecord(0, "cat", 0), ImageRecord(1, "dog", 0), ImageRecord(1, "dog", 1))
PIXELS = np.random.default_rng(0).random((3, 6, 6, 3))


def files(directory):
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.*g"))


def test_rounding():
    values = np.array([0.0, 0.5 / 255, 0.6 / 255, 1.4 / 255, 1.999 / 255, 1.0])
    pixels = np.broadcast_to(values[:, None, None, None], (6, 1, 1, 3))
    assert to_uint8(pixels, "truncate")[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 255]
    assert to_uint8(pixels, "nearest")[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 255]


def test_uint8_is_written_as_it_is(tmp_path):
    images = np.arange(3 * 6 * 6 * 3, dtype=np.uint32).astype(np.uint8).reshape(3, 6, 6, 3)
    for rounding in ("truncate", "nearest"):
        write_manifest(tmp_path, write_images(tmp_path, images, RECORDS, rounding=rounding), {})
        found, labels, records = read_distilled(tmp_path)
        np.testing.assert_array_equal(found, images)
        assert labels.tolist() == [0, 1, 1]
        assert [record.slot for record in records] == [0, 0, 1]


def test_reference_naming_and_jpeg(tmp_path):
    options = {"format": "jpg", "quality": 75, "rounding": "truncate", "naming": "reference"}
    written = write_images(tmp_path, PIXELS, RECORDS, **options)
    assert files(tmp_path) == [
        "train/new000/class000_id000.jpg",
        "train/new001/class001_id000.jpg",
        "train/new001/class001_id001.jpg",
    ]
    # The published code: truncated, and saved with Pillow's defaults.
    expected = io.BytesIO()
    Image.fromarray((PIXELS[2] * 255).astype(np.uint8)).save(expected, "JPEG")
    assert (tmp_path / written[2].file).read_bytes() == expected.getvalue()


def test_class_naming_needs_all_names_to_leave_the_number_out(tmp_path):
    write_images(tmp_path / "a", PIXELS, RECORDS, class_names=("cat", "dog"))
    assert files(tmp_path / "a")[0] == "train/cat/class000_id000.png"
    write_images(tmp_path / "b", PIXELS, RECORDS)
    assert files(tmp_path / "b")[0] == "train/000_cat/class000_id000.png"


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["n01440764", "n02102040"], ("n01440764", "n02102040")),
        (["dog", "cat"], ("000_dog", "001_cat")),  # sorted, they would swap labels
        (["2", "10"], ("000_2", "001_10")),
        (["1", "10", "2"], ("000_1", "001_10", "002_2")),  # sorted by code points, not by number
        (["1", "2", "10"], ("000_1", "001_2", "002_10")),  # the other way round
        (["Zebra", "apple"], ("000_Zebra", "001_apple")),
        (["class01", "class02", "class10"], ("class01", "class02", "class10")),
        (["01", "1"], ("000_01", "001_1")),  # one number to timm
        (["apple", "train", "wolf"], ("000_apple", "001_TRAIN", "002_wolf")),  # a split to datasets
        (["a²", "b"], ("a_", "b")),  # a number that timm cannot read
        (["cafe\u0301", "cafz"], ("000_caf\u00e9", "001_cafz")),
        (["a", "b/c"], ("a", "b_c")),
        (["a/b", "a_b"], ("000_a_b", "001_a_b")),  # alike once cleaned
        (["CAT", "cat"], ("000_CAT", "001_cat")),  # alike on some file systems
        (["../../etc", "..", ""], ("000__.._etc", "001_class", "002_class")),
        (["é" * 300], ("é" * 100,)),
    ],
)
def test_class_folders(names, folders):
    found = class_folders(names)
    assert found == folders
    assert list(found) == sorted(found)
    assert class_folders(names, "reference")[0] == "new000"


@pytest.mark.parametrize("naming", ["class", "reference"])
def test_class_folders_sort_beyond_a_thousand_classes(naming):
    folders = class_folders([str(k) for k in range(1001)], naming)
    assert list(folders) == sorted(folders)
    assert folders[999][-8:] in ("0999_999", "new0999")


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (PIXELS * 255, {}, r"images from .* expected pixels in \[0, 1\]"),
        (PIXELS * np.nan, {}, r"images from nan to nan"),
        (PIXELS[..., 0], {}, r"shape \(3, 6, 6\): expected \[n, h, w, 3\]"),
        (PIXELS.astype(np.int32), {}, "dtype int32"),
        (PIXELS[:2], {}, "2 images for 3 records"),
        (PIXELS, {"format": "webp"}, "format 'webp': expected one of png, jpg"),
        (PIXELS, {"rounding": "up"}, "rounding 'up': expected one of truncate, nearest"),
        (PIXELS, {"naming": "wnid"}, "naming 'wnid': expected one of class, reference"),
        (PIXELS, {"quality": 0}, "quality 0: expected 1 to 95"),
    ],
)
def test_wrong_input(tmp_path, pixels, options, message):
    with pytest.raises(InputError, match=message):
        write_images(tmp_path, pixels, RECORDS, **options)
    assert files(tmp_path) == []


def test_read_distilled_refuses_another_size(tmp_path):
    written = [
        *write_images(tmp_path, PIXELS[:1], RECORDS[:1]),
        *write_images(tmp_path, PIXELS[1:, :5], RECORDS[1:]),
    ]
    write_manifest(tmp_path, written, {})
    with pytest.raises(InputError, match="6 x 5 pixels; expected 6 x 6"):
        read_distilled(tmp_path)


def write_set(folder, count, size):
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    records = [ImageRecord(k, f"c{k}", 0) for k in range(count)]
    write_manifest(folder, write_images(folder, images, records), {})
    return images


def test_all_cores_decode_and_the_pixels_are_in_memory_once(tmp_path, monkeypatch):
    expected = write_set(tmp_path, 200, 96)
    both, decode, used = threading.Barrier(2, timeout=30), image_folder.decode, set()

    def decode_with_another(data, name):
        # The first image is decoded alone, for its shape. Two threads meet here, or time is up.
        thread = threading.current_thread()
        if thread is not threading.main_thread() and thread.name not in used:
            used.add(thread.name)
            both.wait()
        return decode(data, name)

    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    with monkeypatch.context() as patched:
        patched.setattr(image_folder, "decode", decode_with_another)
        images, _, _ = read_distilled(tmp_path)
    np.testing.assert_array_equal(images, expected)
    assert len(used) == 2
    del images
    tracemalloc.start()
    images, _, _ = read_distilled(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * images.nbytes


def test_shared_images_are_decoded_once_while_they_are_used(tmp_path, monkeypatch):
    expected = write_set(tmp_path, 3, 6)
    first, _, _ = read_distilled(tmp_path, shared=True)
    assert read_distilled(tmp_path, shared=True)[0] is first
    assert not first.flags.writeable
    own, _, _ = read_distilled(tmp_path)
    own[:] = 0  # somebody else's
    np.testing.assert_array_equal(first, expected)
    other = write_set(tmp_path, 3, 8)
    np.testing.assert_array_equal(read_distilled(tmp_path, shared=True)[0], other)
    file = next((tmp_path / "train").rglob("*.png"))
    file.write_bytes(b"changed")
    with pytest.raises(InputError, match="changed, SHA-256"):
        read_distilled(tmp_path, shared=True)
    del first
    assert len(image_folder._shared) == 0


def test_the_first_broken_file_is_named(tmp_path):
    write_set(tmp_path, 40, 6)
    for name in ("class031_id000", "class017_id000"):
        next((tmp_path / "train").rglob(f"{name}.png")).write_bytes(b"")
    with pytest.raises(InputError, match="class017_id000"):
        read_distilled(tmp_path)
