"""ranking.csv and selection.csv: what they look like, what comes back, what is refused."""

import numpy as np
import pytest

from delt_jax.data.arrays import ArraySource
from delt_jax.data.selection import (
    Selection,
    Subset,
    check_class_sizes,
    read_ranking,
    read_selection,
    sample_classes,
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
    scores, boxes = read_ranking(workdir.ranking_csv, source)
    np.testing.assert_array_equal(scores, SCORES)
    assert boxes is None


def test_float32_scores_come_back_exactly(source, tmp_path):
    workdir, scores = WorkDir(tmp_path), SCORES.astype(np.float32)
    write_ranking(workdir, source, scores)
    np.testing.assert_array_equal(read_ranking(workdir.ranking_csv, source)[0], scores)


BOXES = np.arange(28).reshape(7, 4) + 1


def test_ranking_of_patches_has_their_boxes(source, tmp_path):
    workdir = WorkDir(tmp_path)
    scores = SCORES * [1, 1, 1, 1, 1, 1, np.nan]
    write_ranking(workdir, source, scores, BOXES)
    assert workdir.ranking_csv.read_text() == (
        "score,img_path,class,top,left,height,width\n"
        "0.3333333333333333,a/00001.png,a,5,6,7,8\n"
        "0.2,a/00003.png,a,13,14,15,16\n"
        "1e-09,a/00005.png,a,21,22,23,24\n"
        "0.7,b/00002.png,b,9,10,11,12\n"
        "0.7,b/00004.png,b,17,18,19,20\n"
        "0.1,b/00000.png,b,1,2,3,4\n"
    )
    again, boxes = read_ranking(workdir.ranking_csv, source)
    np.testing.assert_array_equal(again, scores)
    np.testing.assert_array_equal(boxes[:6], BOXES[:6])


def test_ranking_of_the_published_code_with_its_index_column(source, tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("Unnamed: 0,score,img_path,class\r\n3,0.25,b/00002.png,b\r\n")
    scores, boxes = read_ranking(path, source)
    assert (scores[2], boxes) == (0.25, None)
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
        (
            "score,img_path,top,left,height,width\n0.5,b/00000.png,1,2,x,4\n",
            "line 2: box '1', '2', 'x', '4'; expected top, left, height, width in pixels",
        ),
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


def test_a_spreadsheet_s_byte_order_mark_is_no_part_of_a_column(source, tmp_path):
    workdir = WorkDir(tmp_path)
    scores = np.arange(len(source), dtype=np.float64)
    write_ranking(workdir, source, scores)
    workdir.ranking_csv.write_bytes(b"\xef\xbb\xbf" + workdir.ranking_csv.read_bytes())
    np.testing.assert_array_equal(read_ranking(workdir.ranking_csv, source)[0], scores)


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


def test_random_selection_draws_from_a_stream_of_its_own(source, monkeypatch):
    seeds, seeded = [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: seeds.append(seed) or seeded(seed))
    selection_indices(source, SCORES, "random", 2, 5)
    # CRC-32 of "selection", then the class.
    assert seeds == [[5, 2527399127, 0], [5, 2527399127, 1]]


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
    check_class_sizes(source, 3, factor=1)
    with pytest.raises(
        InputError, match=r"class 'b' has 4 images; expected at least ipc \* factor\^2 = 2 \* 4 = 8"
    ):
        check_class_sizes(source, 2, factor=2)
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
    assert (found.boxes, found.factor, found.ipc) == (None, 1, 2)
    assert found.cells.tolist() == [[0], [1], [2], [3]]


@pytest.fixture
def larger():
    """Two classes of four images."""
    return ArraySource(np.zeros((8, 2, 2, 3), np.uint8), np.repeat([0, 1], 4), ("b", "a"))


def test_selection_of_mosaics_round_trip(larger, tmp_path):
    workdir, scores = WorkDir(tmp_path), np.arange(8) / 8
    indices = selection_indices(larger, scores, "top", 1, 0, factor=2)
    assert indices.tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]
    boxes = np.arange(32).reshape(2, 4, 4)
    write_selection(workdir, larger, Selection(indices, scores[indices], boxes, 2))
    assert workdir.selection_csv.read_text().splitlines()[:5] == [
        "class,rank,score,img_path,cell,top,left,height,width",
        "b,0,0.375,b/00003.png,0,0,1,2,3",
        "b,0,0.25,b/00002.png,1,4,5,6,7",
        "b,0,0.125,b/00001.png,2,8,9,10,11",
        "b,0,0.0,b/00000.png,3,12,13,14,15",
    ]
    found = read_selection(workdir.selection_csv, larger)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.scores, scores[indices])
    np.testing.assert_array_equal(found.boxes, boxes)
    assert (found.factor, found.ipc) == (2, 1)
    # Whole images in mosaics have no box.
    write_selection(workdir, larger, Selection(indices, scores[indices], factor=2))
    assert workdir.selection_csv.read_text().splitlines()[1] == "b,0,0.375,b/00003.png,0,,,,"
    assert read_selection(workdir.selection_csv, larger).boxes is None


def test_cells_of_a_selection(larger, tmp_path):
    source = ArraySource(np.zeros((16, 2, 2, 3), np.uint8), np.repeat([0, 1], 8), ("b", "a"))
    indices = np.arange(16).reshape(2, 8)
    selection = Selection(indices, np.zeros((2, 8)), factor=2)
    # Cell k of image i is rank k * IPC + i of its class.
    expected = [[0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15]]
    assert selection.cells.tolist() == expected
    names, boxes = selection.origins(source, np.array([3]))[0]
    assert names == ("a/00009.png", "a/00011.png", "a/00013.png", "a/00015.png")
    assert boxes == ()
    write_selection(WorkDir(tmp_path), source, selection)
    found = read_selection(tmp_path / "selection.csv", source)
    np.testing.assert_array_equal(found.indices, indices)


def test_a_mosaic_without_a_cell_is_refused(larger, tmp_path):
    workdir, scores = WorkDir(tmp_path), np.arange(8) / 8
    indices = selection_indices(larger, scores, "top", 1, 0, factor=2)
    write_selection(workdir, larger, Selection(indices, scores[indices], factor=2))
    lines = workdir.selection_csv.read_text().splitlines()
    kept = [line for line in lines if ",2,,,," not in line]
    workdir.selection_csv.write_text("\n".join(kept) + "\n")
    with pytest.raises(InputError, match=r"cells or boxes are missing"):
        read_selection(workdir.selection_csv, larger)


def test_only_some_images_may_be_chosen(source):
    among = np.array([True, True, True, True, False, True, False])
    for mode in ("top", "random"):
        chosen = selection_indices(source, SCORES, mode, 2, 0, among=among)
        assert set(chosen[0]) == {0, 2}
    with pytest.raises(InputError, match="class 'b' has 2 ranked images"):
        selection_indices(source, SCORES, "random", 3, 0, among=among)


def test_sample_classes(source):
    drawn = sample_classes(source, 2, seed=5)
    assert np.bincount(source.labels[drawn]).tolist() == [2, 2]
    assert sample_classes(source, 0, seed=5).all()
    assert sample_classes(source, 100, seed=5).all()
    np.testing.assert_array_equal(sample_classes(source, 2, 5, drawn), drawn)
    draws = {tuple(sample_classes(source, 2, seed)) for seed in range(10)}
    assert len(draws) > 4


def test_subset_is_a_source():
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 2, 2, 3)
    whole = ArraySource(images, np.array([0, 1, 0, 1, 0, 1, 0]), ("b", "a"))
    part = Subset(whole, np.array([1, 4]))
    assert (len(part), part.names) == (2, ("a/00001.png", "b/00004.png"))
    assert part.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(part[1], images[4])


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
