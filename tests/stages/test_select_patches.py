"""The select stage with patches, mosaics and a sample of each class."""

import csv

import numpy as np
import pytest
from tiny_run import CLASSES, MEAN, SIZE, STD, make_config, save_teacher, train_source

from delt_jax.core.ranking import mosaic_ranks
from delt_jax.data.patches import RandomCrops, crop, initial_images
from delt_jax.data.selection import read_selection
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import select
from delt_jax.stages.partial_ranking import Part


@pytest.fixture
def config(tmp_path):
    """Twelve images of each of three classes."""
    c = make_config(tmp_path)
    c.data.workers = 0
    return c


@pytest.fixture
def workdir(tmp_path):
    workdir = WorkDir(tmp_path / "run")
    save_teacher(workdir)
    return workdir


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("factor", [1, 2])
def test_the_score_of_an_image_is_that_of_its_best_crop(config, workdir, tmp_path, factor):
    config.select.update(crops=5, factor=factor, mode="top")
    result = select.run(config, workdir)
    teacher = save_teacher(WorkDir(tmp_path / "another"))
    source = train_source(config)
    side = SIZE // factor
    views = RandomCrops(5, side, config.seed)
    rows = {row["img_path"]: row for row in rows_of(result.ranking_csv)}
    assert len(rows) == len(source)
    for index in (0, 7, 35):
        name, label = source.names[index], source.labels[index]
        boxes = views.boxes(SIZE, SIZE, name)
        inputs = np.zeros((5, SIZE, SIZE, 3), np.float32)
        at = (SIZE - side) // 2
        for row, box in zip(inputs, boxes, strict=True):
            row[at : at + side, at : at + side] = (
                crop(source[index], box, side) / 255 - np.array(MEAN)
            ) / np.array(STD)
        logits = np.asarray(teacher.apply(inputs), float)
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        best = probabilities[:, label].argmax()
        row = rows[name]
        np.testing.assert_allclose(float(row["score"]), probabilities[best, label], rtol=1e-4)
        assert [int(row[c]) for c in ("top", "left", "height", "width")] == boxes[best].tolist()


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_neither_batches_nor_order_change_scores_or_boxes(config, workdir, tmp_path, batch_size):
    config.select.update(crops=3, factor=2)
    first = rows_of(select.run(config, workdir).ranking_csv)
    config.select.batch_size = batch_size
    another = WorkDir(tmp_path / "another")
    save_teacher(another)
    second = rows_of(select.run(config, another).ranking_csv)
    scores = {row.pop("img_path"): float(row.pop("score")) for row in first}
    assert len(scores) == len(second) == 36
    for row in second:
        np.testing.assert_allclose(float(row["score"]), scores[row["img_path"]], rtol=1e-5)
    assert {tuple(row.values()) for row in first} <= {
        (row["class"], row["top"], row["left"], row["height"], row["width"]) for row in second
    }


def test_mosaics_hold_the_best_patches_in_their_order(config, workdir):
    config.select.update(crops=4, factor=2, mode="top")
    result = select.run(config, workdir)
    source = train_source(config)
    for label in range(3):
        members = np.flatnonzero(source.labels == label)
        best = np.sort(result.scores[members])[::-1][:8]
        np.testing.assert_array_equal(result.selection.scores[label], best)
    rows = rows_of(result.selection_csv)
    assert len(rows) == 3 * 2 * 4
    for row in rows:
        label, rank = CLASSES.index(row["class"]), int(row["rank"])
        at = mosaic_ranks(2, 2)[rank, int(row["cell"])]
        assert row["img_path"] == source.names[result.selection.indices[label, at]]
        box = [int(row[name]) for name in ("top", "left", "height", "width")]
        assert box == result.selection.boxes[label, at].tolist()
    found = read_selection(result.selection_csv, source)
    images = initial_images(source, found, SIZE)
    assert images.shape == (6, SIZE, SIZE, 3)
    cell = crop(source[found.indices[1, 3]], found.boxes[1, 3], 4)
    np.testing.assert_array_equal(images[3, :4, 4:], cell)  # rank 1 of class 1, cell 1


def test_only_a_sample_of_each_class_is_looked_at(config, workdir, tmp_path):
    config.select.update(images_per_class=5, mode="min")
    result = select.run(config, workdir)
    assert result.scored == len(rows_of(result.ranking_csv)) == 15
    labels = train_source(config).labels
    assert np.bincount(labels[~np.isnan(result.scores)]).tolist() == [5, 5, 5]
    # What it gave is a ranking like any other: the same is chosen, whatever the seed.
    again = WorkDir(tmp_path / "again")
    config.select.ranking, config.seed = str(result.ranking_csv), 9
    np.testing.assert_array_equal(
        select.run(config, again).selection.indices, result.selection.indices
    )
    # All images have the scores that they have when all are looked at.
    config.select.update(images_per_class=0, ranking="")
    every = select.run(config, workdir)
    seen = ~np.isnan(result.scores)
    np.testing.assert_allclose(every.scores[seen], result.scores[seen], rtol=1e-5)


def test_random_patches_are_of_images_that_were_looked_at(config, workdir):
    config.select.update(crops=2, images_per_class=4, mode="random")
    result = select.run(config, workdir)
    assert not np.isnan(result.selection.scores).any()
    assert (result.selection.boxes[..., 2] > 0).all()


def test_a_ranking_of_crops_is_not_taken_for_one_of_whole_images(config, workdir):
    config.select.crops = 2
    config.select.ranking = str(select.run(config, workdir).ranking_csv)
    again = select.run(config, workdir)
    assert again.scored == 0
    assert again.selection.boxes is not None
    config.select.crops = 0
    with pytest.raises(
        InputError, match=r"scores of crops .*select\.crops = 0 expects .* whole im"
    ):
        select.run(config, workdir)
    config.select.ranking = ""
    whole = select.run(config, workdir)
    assert whole.selection.boxes is None
    config.select.update(ranking=str(whole.ranking_csv), crops=2)
    with pytest.raises(InputError, match=r"scores of whole images .* = 2 expects those of crops"):
        select.run(config, workdir)


def test_whole_images_as_ever_where_the_options_are_off(config, workdir):
    result = select.run(config, workdir)
    assert result.ranking_csv.read_text().startswith("score,img_path,class\n")
    assert result.selection_csv.read_text().startswith("class,rank,score,img_path\nred,0,")
    assert (result.selection.boxes, result.selection.factor) == (None, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 3}, r"class 'red' has 12 images; .* ipc \* factor\^2 = 2 \* 9 = 18 \(2 more"),
        ({"factor": 9}, r"select\.factor: got 9, expected 1 to the side of 8 pixels"),
        ({"factor": 0}, r"select\.factor: got 0"),
        ({"crops": -1}, r"select\.crops: got -1, expected a whole number from 0"),
        (
            {"factor": 2, "images_per_class": 7},
            r"images_per_class: got 7, expected 0 \(all\) or at least .* = 2 \* 4 = 8",
        ),
    ],
)
def test_wrong_options_are_named_before_the_teacher_is_looked_for(
    config, tmp_path, options, message
):
    config.select.update(options)
    with pytest.raises(InputError, match=message):
        select.run(config, WorkDir(tmp_path / "no teacher here"))


def test_goes_on_after_an_interruption(config, workdir, tmp_path, monkeypatch):
    config.select.update(crops=3, factor=2, images_per_class=9, batch_size=12, mode="top")
    whole = WorkDir(tmp_path / "whole")
    save_teacher(whole)
    select.run(config, whole)
    append, done = Part.append, []

    def append_or_stop(*args):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(append(*args))

    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", append_or_stop)
        with pytest.raises(KeyboardInterrupt):
            select.run(config, workdir)
    assert not workdir.ranking_csv.exists()
    select.run(config, workdir)
    assert workdir.ranking_csv.read_bytes() == whole.ranking_csv.read_bytes()
    assert workdir.selection_csv.read_bytes() == whole.selection_csv.read_bytes()
