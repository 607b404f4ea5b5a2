"""Which files are images, and which a program left there."""

import pytest
from PIL import Image

from delt_jax.data.image_names import IMAGE_SUFFIXES, count_endings, is_image_name, is_stray


@pytest.mark.parametrize(
    "name",
    [
        *("a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.JFIF", "a.b.png", "a.webp", "a.avif", "a.bmp"),
        *("a.gif", "a.TIF", "a.tiff", "a.ppm", "a.pgm", "a.tga", "a.jp2", "é.Png"),
    ],
)
def test_images_by_their_ending_in_either_case(name):
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name", ["png", "a.txt", "a.png.part", "a.heic", "a.svg", "a.mp4", "a.npy", "a.png~", "a."]
)
def test_other_files_are_no_images_and_no_strays(name):
    assert not is_image_name(name)
    assert not is_stray(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "._a.png", ".hidden.png", ".ipynb_checkpoints", ".nfs0001", "Thumbs.db"),
        *("thumbs.db", "desktop.ini", "Desktop.ini", "@eaDir", "#recycle", "__MACOSX", "Icon\r"),
        *("$RECYCLE.BIN", "System Volume Information", "lost+found", "a.png:Zone.Identifier"),
    ],
)
def test_what_programs_leave_is_ignored(name):
    assert is_stray(name)
    assert not is_image_name(name)


def test_pillow_opens_every_ending():
    Image.init()
    known = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    # AVIF is in Pillow's wheels from 11.3 on; MPO, two JPEGs in one file, goes by .mpo on cameras.
    assert IMAGE_SUFFIXES - known <= {".avif", ".mpo"}


def test_endings_are_counted():
    names = ["a.HEIC", "b.heic", "README", "c.txt"]
    assert count_endings(names) == {".heic": 2, "no ending": 1, ".txt": 1}
