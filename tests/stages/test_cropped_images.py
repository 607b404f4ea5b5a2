"""Splits with images that cannot be read, kept or streamed; a teacher made with such a split."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASSES, SIZE, coloured, make_config

from delt_jax.data.image_folder import open_image_folder
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import squeeze
from delt_jax.stages.cropped_images import CroppedImages, measure_accuracy

BROKEN = ("blue/1.png", "red/0.png", "red/5.png")  # positions 1, 12 and 17 of the training images


@pytest.fixture
def folder(tmp_path):
    """Six images of each class in either split; of each three are no images."""
    for seed, split in enumerate(("train", "test")):
        for label, name in enumerate(CLASSES):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number, image in enumerate(coloured(np.full(6, label), [seed, label])):
                Image.fromarray(image).save(place / f"{number}.png")
        for name in BROKEN:
            (tmp_path / "data" / split / name).write_bytes(b"not an image")
    return tmp_path / "data"


def cropped(folder, hold_bytes, **options):
    source = open_image_folder(folder, "test")
    return CroppedImages(source, SIZE, hold_bytes, **options)


def test_kept_images_are_those_that_can_be_read(folder):
    images = cropped(folder, 1 << 20)
    assert len(images) == len(images.held()) == images.readable == 15
    assert images.labels.tolist() == [0] * 5 + [1] * 6 + [2] * 4
    assert sorted(images.problems) == [1, 12, 17]
    labels = np.concatenate([batch.labels for batch in images.batches(None, 4)])
    assert labels.tolist() == images.labels.tolist()


def test_streamed_images_that_cannot_be_read_are_marked(folder):
    images = cropped(folder, 0)
    assert len(images) == 18
    labels = np.concatenate([batch.labels for batch in images.batches(None, 4)])
    assert np.flatnonzero(labels == -1).tolist() == [1, 12, 17]
    assert images.readable == 15


@pytest.mark.parametrize("hold_bytes", [0, 1 << 20])
def test_strict(folder, hold_bytes):
    with pytest.raises(InputError, match=r"blue/1\.png: cannot be read"):
        list(cropped(folder, hold_bytes, strict=True).batches(None, 4))


@pytest.mark.parametrize("hold_bytes", [0, 1 << 20])
@pytest.mark.parametrize("batch_size", [4, 100])
def test_accuracy_is_of_images_that_can_be_read(folder, hold_bytes, batch_size):
    """Classes in label order are blue, green, red: the last channel means the first class."""

    def brightest(images):
        return images.mean((1, 2))[:, ::-1]

    accuracy = measure_accuracy(brightest, cropped(folder, hold_bytes), batch_size)
    assert accuracy.top1 == 100
    assert accuracy.per_class.tolist() == [100, 100, 100]
    only_blue = measure_accuracy(
        lambda images: np.tile([1, 0, 0], (len(images), 1)), cropped(folder, hold_bytes), batch_size
    )
    assert only_blue.top1 == pytest.approx(100 * 5 / 15)


def test_no_image_that_can_be_read(folder):
    for file in (folder / "test").glob("*/*"):
        file.write_bytes(b"not an image")
    for hold_bytes in (0, 1 << 20):
        with pytest.raises(InputError, match=r"no test image can be read: .*blue/0\.png: cannot"):
            measure_accuracy(lambda images: images.mean((1, 2)), cropped(folder, hold_bytes))


@pytest.mark.parametrize("hold_bytes", [0, 1 << 20])
def test_squeeze(folder, tmp_path, monkeypatch, caplog, hold_bytes):
    monkeypatch.setattr(CroppedImages.__init__, "__defaults__", (hold_bytes,))
    config = make_config(tmp_path)
    config.data.source, config.data.name = str(folder), "own"
    config.teacher.statistics = "imagenet"
    config.teacher.squeeze.batch_size = 4
    workdir = WorkDir(tmp_path / "run")
    teacher = squeeze.run(config, workdir).teacher
    recipe = teacher.recipe
    assert (recipe["train_images"], recipe["test_images"]) == (15, 15)
    losses = [
        json.loads(line).get("loss") for line in workdir.metrics_jsonl.read_text().split("\n")[:3]
    ]
    assert np.isfinite(losses).all()
    rows = list(csv.DictReader(workdir.unreadable_csv.read_text().splitlines()))
    assert [(row["split"], row["img_path"]) for row in rows] == [
        (split, name) for split in ("test", "train") for name in BROKEN
    ]
    assert [message.split(" could")[0] for message in caplog.messages] == [
        "squeeze, training images: 3 of 18 images",
        "squeeze, test images: 3 of 18 images",
    ]

    config.data.strict = True
    with pytest.raises(InputError, match=r"\.png: cannot be read"):
        squeeze.run(config, WorkDir(tmp_path / "strict"))
