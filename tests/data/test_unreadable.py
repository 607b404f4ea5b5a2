"""unreadable.csv: merged, sorted, once each; one line for people."""

import logging

import numpy as np

from delt_jax.data import unreadable
from delt_jax.data.arrays import ArraySource
from delt_jax.runtime.workdir import WorkDir

SOURCE = ArraySource(np.zeros((2000, 1, 1, 3), np.uint8), np.arange(2000) % 2, ("a", "b,c"))
SOURCE.split = "train"


def test_merges_sorts_and_says_so_in_one_line(tmp_path, caplog):
    workdir = WorkDir(tmp_path)
    with caplog.at_level(logging.WARNING):
        unreadable.record(workdir, "ranking", SOURCE, [(5, "cut"), (2, 'says "no"'), (5, "cut")])
    assert caplog.messages == [
        "ranking: 2 of 2,000 images could not be read and were left out; their names and reasons "
        f"are in {tmp_path / 'unreadable.csv'}"
    ]
    assert workdir.unreadable_csv.read_text() == (
        'split,img_path,reason\ntrain,a/00002.png,"says ""no"""\ntrain,"b,c/00005.png",cut\n'
    )
    unreadable.record(workdir, "squeeze", SOURCE, [(0, "é"), (5, "cut")], total=10)
    assert unreadable.read(workdir) == {
        ("train", "a/00000.png", "é"),
        ("train", "a/00002.png", 'says "no"'),
        ("train", "b,c/00005.png", "cut"),
    }
    assert caplog.messages[1].startswith("squeeze: 2 of 10 images")


def test_nothing_for_none(tmp_path, caplog):
    workdir = WorkDir(tmp_path)
    unreadable.record(workdir, "ranking", SOURCE, [])
    assert not caplog.messages
    assert not workdir.unreadable_csv.exists()
    assert unreadable.read(workdir) == set()


def test_images_of_two_splits_may_have_one_name(tmp_path):
    workdir = WorkDir(tmp_path)
    test = ArraySource(np.zeros((2, 1, 1, 3), np.uint8), np.array([0, 1]), ("a", "b,c"))
    test.split = "test"
    unreadable.record(workdir, "squeeze, test images", test, [(0, "cut")])
    unreadable.record(workdir, "squeeze, training images", SOURCE, [(0, "cut")])
    assert unreadable.read(workdir) == {
        ("test", "a/00000.png", "cut"),
        ("train", "a/00000.png", "cut"),
    }


def test_a_file_of_an_earlier_version_names_no_split(tmp_path):
    workdir = WorkDir(tmp_path)
    workdir.unreadable_csv.write_text("img_path,reason\na/00000.png,cut\n")
    assert unreadable.read(workdir) == {("", "a/00000.png", "cut")}
