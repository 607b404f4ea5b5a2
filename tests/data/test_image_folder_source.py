"""ImageFolder trees as sources, tidy ones and others."""

import errno
import os

import numpy as np
import pytest
from PIL import Image, features

from delt_jax.data import image_folder
from delt_jax.data.image_folder import open_image_folder, open_two_folders
from delt_jax.errors import InputError


@pytest.fixture
def tree(tmp_path):
    """train/ and val/ of two classes; every image is of one value, its number."""
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(["dog", "cat"]):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                value = 100 * label + index
                Image.new("RGB", (5, 4), (value,) * 3).save(folder / f"{index}.png")
    return tmp_path


def test_classes_are_sorted_folders_and_images_sorted_files(tree):
    source = open_image_folder(tree, "train")
    assert source.class_names == ("cat", "dog")
    assert source.names == (
        *("cat/0.png", "cat/1.png", "cat/2.png"),
        *("dog/0.png", "dog/1.png", "dog/2.png"),
    )
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source[1].shape == (4, 5, 3)
    assert [int(source[i].max()) for i in range(6)] == [100, 101, 102, 0, 1, 2]


def test_val_serves_as_test_and_test_comes_first(tree):
    assert len(open_image_folder(tree, "test")) == 4
    (tree / "val").rename(tree / "validation")
    assert len(open_image_folder(tree, "test")) == 4
    (tree / "validation").rename(tree / "valid")
    assert len(open_image_folder(tree, "test")) == 4
    (tree / "valid").rename(tree / "test")
    assert len(open_image_folder(tree, "test")) == 4


def test_nested_linked_hidden_and_other_files(tree):
    # As Tiny-ImageNet lies on disk: a folder more; and what an operating system leaves behind.
    nested = tree / "train" / "cat" / "images"
    nested.mkdir()
    long_name = "é" * 100 + ".PNG"
    (tree / "train" / "cat" / "0.png").rename(nested / long_name)
    (tree / "train" / "dog" / "link.png").symlink_to(tree / "train" / "dog" / "0.png")
    (tree / "train" / "dog" / "loop").symlink_to(tree / "train" / "dog")
    (tree / "train" / "dog" / "Thumbs.db").write_bytes(b"?")
    (tree / "train" / "dog" / "._0.png").write_bytes(b"?")
    (tree / "train" / ".cache").mkdir()
    (tree / "train" / "README.txt").write_text("hello")
    source = open_image_folder(tree, "train")
    assert source.names == (
        *("cat/1.png", "cat/2.png", f"cat/images/{long_name}"),
        *("dog/0.png", "dog/1.png", "dog/2.png", "dog/link.png"),
    )
    np.testing.assert_array_equal(source[6], source[3])


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".avif", ".JFIF", ".Jpeg"])
def test_every_ending_that_pillow_opens_is_read(tree, ending):
    kind = "AVIF" if ending == ".avif" else "JPEG"
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    Image.new("RGB", (5, 4), (200,) * 3).save(tree / "train" / "cat" / f"9{ending}", kind)
    source = open_image_folder(tree, "train")
    assert source.names[3] == f"cat/9{ending}"
    assert abs(int(source[3].mean()) - 200) <= 2


def test_files_of_other_endings_are_counted_and_said_once(tree, caplog):
    for name in ("cat/a.HEIC", "cat/b.heic", "dog/notes.txt", "dog/deep/list"):
        (tree / "train" / name).parent.mkdir(exist_ok=True)
        (tree / "train" / name).write_bytes(b"?")
    for _ in range(2):
        assert len(open_image_folder(tree, "train")) == 6
    assert caplog.messages == [
        f"{tree / 'train'}: 4 files left out, whose ending is no image's: 2 .heic, 1 .txt, "
        "1 no ending"
    ]


def test_what_programs_leave_is_neither_class_nor_image_nor_said(tree, caplog):
    for folder in (
        "train/@eaDir",
        "train/__MACOSX",
        "train/cat/@eaDir",
        "train/.ipynb_checkpoints",
    ):
        (tree / folder).mkdir()
        (tree / folder / "0.png").write_bytes(b"?")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "0.png:Zone.Identifier"):
        (tree / "train" / "cat" / name).write_bytes(b"?")
        (tree / "train" / name).write_bytes(b"?")
    for split, count in (("train", 6), ("test", 4)):
        source = open_image_folder(tree, split)
        assert (source.class_names, len(source)) == (("cat", "dog"), count)
    assert not caplog.messages


def test_files_are_opened_only_when_asked_for(tree):
    (tree / "train" / "cat" / "1.png").write_bytes(b"not an image")
    source = open_image_folder(tree, "train")
    assert source[0].max() == 100
    with pytest.raises(InputError, match=r"cat/1\.png: cannot be read"):
        source[1]


def test_no_split(tree):
    (tree / "val").rename(tree / "extra")
    with pytest.raises(InputError, match=r"no test split, found extra, train; expected test/ or v"):
        open_image_folder(tree, "test")


def test_no_classes(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="no class folder"):
        open_image_folder(tmp_path, "train")


def test_class_without_an_image(tree):
    (tree / "train" / "eel").mkdir()
    (tree / "val" / "eel").mkdir()
    (tree / "train" / "eel" / "notes.txt").write_text("none yet")
    with pytest.raises(InputError, match=r"eel: no image in it, but 1 \.txt; expected"):
        open_image_folder(tree, "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_in_one_split_only(tree, split):
    (tree / split / "eel").mkdir()
    with pytest.raises(InputError, match=rf"class 'eel' is only in \S*/{split} \([23] classes in "):
        open_image_folder(tree, "test")


def test_two_folders_wherever_they_lie(tree):
    (tree / "val").rename(tree / "elsewhere")
    train = open_two_folders(tree / "train", tree / "elsewhere", "train")
    test = open_two_folders(tree / "train", tree / "elsewhere", "test")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert (train.names[0], test.names[0]) == ("cat/0.png", "cat/0.png")
    assert (len(train), len(test)) == (6, 4)


def test_a_disk_that_does_not_answer_hides_no_class(tree, monkeypatch):
    class Entry:
        name, path = "dog", str(tree / "train" / "dog")

        def is_symlink(self):
            return False

        def is_dir(self):
            raise OSError(errno.EIO, os.strerror(errno.EIO), self.path)

    monkeypatch.setattr(image_folder, "_entries", lambda folder: [Entry()])
    with pytest.raises(OSError, match="Input/output error"):
        open_image_folder(tree, "train")


def test_class_folders_may_be_links(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (tree / "train" / "dog").rename(elsewhere / "hound")
    (tree / "train" / "dog").symlink_to(elsewhere / "hound")
    assert open_image_folder(tree, "train").names[3:] == ("dog/0.png", "dog/1.png", "dog/2.png")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("..", r"train/eel: a link to \S+, where it lies; expected a class folder"),
        (".", r"train/eel: a link to \S+, where it lies; expected a class folder"),
        ("eel", "train/eel: a link that leads nowhere or in a circle"),
        ("gone", "train/eel: a link that leads nowhere or in a circle"),
    ],
)
def test_a_link_that_is_no_class_folder(tree, target, message):
    (tree / "train" / "eel").symlink_to(target)
    with pytest.raises(InputError, match=message):
        open_image_folder(tree, "train")


def test_hidden_folders_and_what_is_no_file(tree):
    cat = tree / "train" / "cat"
    (cat / ".ipynb_checkpoints").mkdir()
    (cat / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(b"?")
    (cat / "folder.png").mkdir()
    (cat / "link.png").symlink_to("link.png")
    os.mkfifo(cat / "pipe.png")  # would never end to be read
    source = open_image_folder(tree, "train")
    assert source.names[:4] == ("cat/0.png", "cat/1.png", "cat/2.png", "cat/link.png")
    with pytest.raises(InputError, match=r"link\.png: cannot be read"):
        source[3]


def test_a_class_whose_images_are_all_deep_down(tree):
    deep = tree / "train" / "cat" / "2024" / "may"
    deep.mkdir(parents=True)
    for index in range(3):
        (tree / "train" / "cat" / f"{index}.png").rename(deep / f"{index}.png")
    assert open_image_folder(tree, "train").names[0] == "cat/2024/may/0.png"


def test_a_name_that_is_not_utf8(tree):
    name = os.fsdecode(b"caf\xe9.png")
    (tree / "train" / "cat" / "0.png").rename(tree / "train" / "cat" / name)
    with pytest.raises(InputError, match=r"image 'cat/caf\\udce9\.png'; expected a name in UTF-8"):
        open_image_folder(tree, "train")


def test_a_folder_that_cannot_be_listed(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"train/dog: cannot be listed \(Permission denied\)"):
        open_image_folder(tree, "train")


def test_a_class_is_listed_again_only_when_its_folder_has_changed(tree, monkeypatch):
    monkeypatch.setattr(image_folder, "_FRESH_SECONDS", -1e9)
    open_image_folder(tree, "train")
    listed = image_folder._listing.cache_info().misses
    assert len(open_image_folder(tree, "train")) == 6
    assert image_folder._listing.cache_info().misses == listed
    (tree / "train" / "cat" / "0.png").unlink()
    os.utime(tree / "train" / "cat", (1, 1))
    assert len(open_image_folder(tree, "train")) == 5
    assert image_folder._listing.cache_info().misses == listed + 1


def test_unlabelled_test_images_are_passed_over_for_those_with_classes(tree, caplog):
    (tree / "test" / "images").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(tree / "test" / "images" / "0.png")
    assert len(open_image_folder(tree, "test")) == 4
    assert f"{tree}/test: passed over, it has none of the training classes" in caplog.text
    (tree / "test" / "images" / "0.png").rename(tree / "test" / "0.png")
    (tree / "test" / "images").rmdir()
    assert len(open_image_folder(tree, "test")) == 4
    (tree / "test" / "cat").mkdir()  # a class of the training set: this one is meant
    with pytest.raises(InputError, match=r"class 'dog' is only in \S+/train \("):
        open_image_folder(tree, "test")


def test_raw_tiny_imagenet_is_told_what_to_do(tree):
    for folder in ("val/cat", "val/dog"):
        for image in (tree / folder).iterdir():
            image.unlink()
        (tree / folder).rmdir()
    for folder in ("val/images", "test/images"):
        (tree / folder).mkdir(parents=True)
    (tree / "val" / "val_annotations.txt").write_text("0.png\tcat\t0\t0\t62\t62\n")
    with pytest.raises(InputError, match=r"\(sort those of \S+/val into them by val_annotations"):
        open_image_folder(tree, "test")


def test_test_images_that_are_the_training_images_are_refused(tree):
    for test in (tree / "train", tree / "link"):
        if not test.exists():
            test.symlink_to(tree / "train")
        with pytest.raises(
            InputError, match=r"'cat': .* are the same folder; expected test images"
        ):
            open_two_folders(tree / "train", test, "test")
    other = tree / "other"
    other.mkdir()
    (other / "cat").symlink_to(tree / "val" / "cat")
    (other / "dog").symlink_to(tree / "train" / "dog")
    with pytest.raises(
        InputError, match=r"class 'dog': \S+/other/dog and \S+/train/dog are the sa"
    ):
        open_two_folders(tree / "train", other, "test")


def test_test_images_that_are_links_to_training_images_are_refused(tree):
    links = tree / "links"
    for name in ("cat", "dog"):
        (links / name).mkdir(parents=True)
        for image in (tree / "train" / name).rglob("*.png"):
            (links / name / image.name).symlink_to(image)
    with pytest.raises(
        InputError, match=r"links/cat/\S+: a link to a training image, \S+/train/cat"
    ):
        open_two_folders(tree / "train", links, "test")
    assert len(open_two_folders(tree / "val", links, "test"))  # links to other images are fine


def test_names_count_in_any_unicode_form(tree):
    (tree / "train" / "cat").rename(tree / "train" / "e\u0301l\u00e8ve")
    (tree / "val" / "cat").rename(tree / "val" / "\u00e9le\u0300ve")
    train, test = (open_image_folder(tree, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("dog", "\u00e9l\u00e8ve")
    by_name = dict(zip(test.names, test.labels.tolist(), strict=True))
    assert test.class_names[by_name["dog/0.png"]] == "dog"
    assert test.class_names[by_name["\u00e9le\u0300ve/0.png"]] == "\u00e9l\u00e8ve"
    assert test[test.names.index("dog/1.png")].max() == 1
    (tree / "train" / "\u00e9l\u00e8ve").mkdir()
    with pytest.raises(InputError, match="are one name, 'élève', in two Unicode forms"):
        open_image_folder(tree, "train")
