"""ranking.csv and selection.csv: what they look like, what comes back, what is refused."""

import numpy as np
import pytest

from delt_jax.data.arrays import ArraySource
from delt_jax.data.selection import (
    Selection,
    check_class_sizes,
    read_ranking,
    read_selection,
    selection_indices,
    write_ranking,
    write_selection,
)
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir


@pytest.fixture
def source():
    """Seven images; the classes are not in alphabetical order."""
    return ArraySource(
        np.zeros((7, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1, 0, 1, 0]), ("b", "a")
    )


SCORES = np.array([0.1, 1 / 3, 0.7, 0.2, 0.7, 1e-9, 0.5])


def test_ranking_as_the_published_code_writes_it(source, tmp_path):
    workdir = WorkDir(tmp_path)
    write_ranking(workdir, source, SCORES)
    # By class name, then score from high to low; equal scores by image name.
    assert workdir.ranking_csv.read_text() == (
        "score,img_path,class\n"
        "0.3333333333333333,a/00001.png,a\n"
        "0.2,a/00003.png,a\n"
        "1e-09,a/00005.png,a\n"
        "0.7,b/00002.png,b\n"
        "0.7,b/00004.png,b\n"
        "0.5,b/00006.png,b\n"
        "0.1,b/00000.png,b\n"
    )
    np.testing.assert_array_equal(read_ranking(workdir.ranking_csv, source), SCORES)


def test_float32_scores_come_back_exactly(source, tmp_path):
    workdir, scores = WorkDir(tmp_path), SCORES.astype(np.float32)
    write_ranking(workdir, source, scores)
    np.testing.assert_array_equal(read_ranking(workdir.ranking_csv, source), scores)


def test_ranking_of_the_published_code_with_its_index_column(source, tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("Unnamed: 0,score,img_path,class\r\n3,0.25,b/00002.png,b\r\n")
    scores = read_ranking(path, source)
    assert scores[2] == 0.25
    assert np.isnan(np.delete(scores, 2)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "score,img_path\n0.5,b/9.png\n",
            r"line 2: image 'b/9.png' is not in the source; .*b/00000",
        ),
        ("score,img_path\n.5,b/00000.png\n.5,b/00000.png\n", "line 3: .* for the second time"),
        ("score,img_path\nhigh,b/00000.png\n", "line 2: 'high'; expected a finite number"),
        ("score,img_path\nnan,b/00000.png\n", "line 2: 'nan'; expected a finite number"),
        ("score,img_path\n0.5\n", "line 2: cut short"),
        ("path,score\n", "found columns path,score; expected score,img_path"),
        ("", "found columns nothing"),
    ],
)
def test_wrong_ranking(source, tmp_path, text, message):
    path = tmp_path / "ranking.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_ranking(path, source)
    assert "\n" not in str(caught.value)


def test_missing_ranking(source, tmp_path):
    with pytest.raises(InputError, match="No such file or directory; expected columns score,img_p"):
        read_ranking(tmp_path / "ranking.csv", source)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # Class 0 is images 0 2 4 6 with scores .1 .7 .7 .5; class 1 is 1 3 5 with 1/3 .2 1e-9.
        ("top", [[2, 4], [1, 3]]),
        ("min", [[0, 6], [5, 3]]),
        ("medium", [[2, 4], [1, 3]]),
    ],
)
def test_selection_indices(source, mode, expected):
    assert selection_indices(source, SCORES, mode, 2, seed=0).tolist() == expected


def test_random_selection_is_by_seed_and_ignores_scores(source):
    draws = {
        tuple(selection_indices(source, np.full(7, np.nan), "random", 2, seed).ravel())
        for seed in range(8)
    }
    assert len(draws) > 3
    for draw in draws:
        assert source.labels[list(draw)].tolist() == [0, 0, 1, 1]
    # More images of a class go on where fewer stopped.
    more = selection_indices(source, SCORES, "random", 3, seed=1)
    np.testing.assert_array_equal(more[:, :2], selection_indices(source, SCORES, "random", 2, 1))


def test_class_smaller_than_ipc_is_named_with_both_numbers(source):
    check_class_sizes(source, 3)
    with pytest.raises(InputError, match=r"^class 'a' has 3 images; expected at least ipc = 4$"):
        check_class_sizes(source, 4)
    with pytest.raises(InputError, match=r"class 'b' has 4 .* ipc = 5 \(1 more classes are too sm"):
        selection_indices(source, SCORES, "random", 5, 0)
    with pytest.raises(
        InputError, match="class 'a' has 1 ranked images; expected at least ipc = 2"
    ):
        selection_indices(
            source,
            np.where(source.labels == 0, 0.5, SCORES * [1, 1, 1, np.nan, 1, np.nan, 1]),
            "top",
            2,
            0,
        )
    with pytest.raises(InputError, match="ipc 0: expected at least 1"):
        check_class_sizes(source, 0)


def test_selection_round_trip(source, tmp_path):
    workdir = WorkDir(tmp_path)
    indices = selection_indices(source, SCORES, "min", 2, 0)
    write_selection(workdir, source, Selection(indices, SCORES[indices]))
    assert workdir.selection_csv.read_text() == (
        "class,rank,score,img_path\n"
        "b,0,0.1,b/00000.png\n"
        "b,1,0.5,b/00006.png\n"
        "a,0,1e-09,a/00005.png\n"
        "a,1,0.2,a/00003.png\n"
    )
    found = read_selection(workdir.selection_csv, source)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.scores, SCORES[indices])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("b,0,0.1,b/00000.png\n", "0 to 1 images per class"),
        ("b,0,0.1,b/8.png\n", "image 'b/8.png' is not in the source"),
        ("b,first,0.1,b/00000.png\n", "'first'; expected a finite number"),
    ],
)
def test_wrong_selection(source, tmp_path, rows, message):
    path = tmp_path / "selection.csv"
    path.write_text("class,rank,score,img_path\n" + rows)
    with pytest.raises(InputError, match=message):
        read_selection(path, source)
