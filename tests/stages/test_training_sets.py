"""The real images that students are compared with, where some files cannot be read."""

import ml_collections
import pytest
from PIL import Image

from delt_jax.data import sources, unreadable
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.training_sets import open_sets


@pytest.fixture
def photos(tmp_path):
    """train/ and test/ with files of the same names; image k of a class has the value 60 k."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for k in range(4):
                Image.new("RGB", (32, 32), (60 * k,) * 3).save(folder / f"{k:04d}.png")
    return tmp_path / "photos"


def draw(photos, workdir, most=0):
    data = {"name": "custom", "source": str(photos), "image_size": 32, "images_per_class": most}
    config = ml_collections.ConfigDict(
        {
            "ipc": 1,
            "data": data | {"strict": False, "workers": 0},
            "distilled": {"format": "png", "quality": 75},
            "evaluate": {"sets": ("random",)},
        }
    )
    spec = sources.describe("custom", str(photos), 32)
    drawn = open_sets(config, workdir, spec)["random"]
    return {tuple(drawn(seed).images[:, 0, 0, 0].tolist()) for seed in range(8)}


@pytest.mark.parametrize("most", [0, 4])
def test_an_unreadable_test_image_takes_no_training_image_away(photos, tmp_path, most):
    workdir = WorkDir(tmp_path / "run")
    workdir.create()
    before = draw(photos, workdir, most)
    spec = sources.describe("custom", str(photos), 32)
    test = sources.open_source(spec, str(photos), "test")
    unreadable.record(workdir, "evaluate, test images", test, [(k, "cut") for k in range(4)])
    assert draw(photos, workdir, most) == before


def test_an_unreadable_training_image_is_never_drawn(photos, tmp_path):
    workdir = WorkDir(tmp_path / "run")
    workdir.create()
    assert {values[0] for values in draw(photos, workdir)} > {180}
    train = sources.open_source("custom", str(photos), "train")
    unreadable.record(workdir, "ranking", train, [(0, "cut"), (1, "cut"), (2, "cut")])
    assert {values[0] for values in draw(photos, workdir)} == {180}
