"""unreadable.csv: merged, sorted, once each; one line for people."""

import logging

import numpy as np

from delt_jax.data import unreadable
from delt_jax.data.arrays import ArraySource
from delt_jax.runtime.workdir import WorkDir

SOURCE = ArraySource(np.zeros((2000, 1, 1, 3), np.uint8), np.arange(2000) % 2, ("a", "b,c"))


def test_merges_sorts_and_says_so_in_one_line(tmp_path, caplog):
    workdir = WorkDir(tmp_path)
    with caplog.at_level(logging.WARNING):
        unreadable.record(workdir, "ranking", SOURCE, [(5, "cut"), (2, 'says "no"'), (5, "cut")])
    assert caplog.messages == [
        "ranking: 2 of 2,000 images could not be read and were left out; their names and reasons "
        f"are in {tmp_path / 'unreadable.csv'}"
    ]
    assert workdir.unreadable_csv.read_text() == (
        'img_path,reason\na/00002.png,"says ""no"""\n"b,c/00005.png",cut\n'
    )
    unreadable.record(workdir, "squeeze", SOURCE, [(0, "é"), (5, "cut")], total=10)
    assert unreadable.read(workdir) == {
        ("a/00000.png", "é"),
        ("a/00002.png", 'says "no"'),
        ("b,c/00005.png", "cut"),
    }
    assert caplog.messages[1].startswith("squeeze: 2 of 10 images")


def test_nothing_for_none(tmp_path, caplog):
    workdir = WorkDir(tmp_path)
    unreadable.record(workdir, "ranking", SOURCE, [])
    assert not caplog.messages
    assert not workdir.unreadable_csv.exists()
    assert unreadable.read(workdir) == set()
