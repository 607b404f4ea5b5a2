"""The select stage: a teacher, its ranking, and the images chosen."""

import csv
import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from delt_jax.data.arrays import ArraySource
from delt_jax.data.pipeline import batches
from delt_jax.data.selection import read_selection
from delt_jax.data.sources import open_source
from delt_jax.data.specs import SPECS, statistics
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import Network, save_network
from delt_jax.models.torch_weights import from_state_dict, read_state_dict
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import select

CLASSES = ("ant", "bee", "cow")
COUNTS = (7, 5, 6)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture
def data(tmp_path):
    """Eighteen noisy images of three classes in an archive."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(range(3), COUNTS))
    images = rng.integers(0, 256, (18, 12, 10, 3), np.uint8)
    path = tmp_path / "data.npz"
    np.savez(
        path, x_train=images, y_train=labels, x_test=images, y_test=labels, class_names=CLASSES
    )
    return path


@pytest.fixture(scope="module")
def teacher():
    module = registry.create("conv3", 3, 8)
    images = np.zeros((1, 8, 8, 3), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    return Network("conv3", 3, 8, variables, MEAN, STD, CLASSES)


@pytest.fixture
def workdir(tmp_path, teacher):
    workdir = WorkDir(tmp_path / "run")
    save_network(teacher, workdir.teacher)
    return workdir


@pytest.fixture
def config(data):
    return ConfigDict(
        {
            "seed": 0,
            "ipc": 4,
            "checkpoint_minutes": 3.0,
            "data": {
                "name": "own",
                "source": str(data),
                "image_size": 8,
                "images_per_class": 0,
                "strict": False,
                "workers": 0,
            },
            "select": {
                "mode": "medium",
                "crops": 0,
                "factor": 1,
                "images_per_class": 0,
                "ranking": "",
                "statistics": "teacher",
                "batch_size": 8,
            },
        }
    )


def test_run_writes_ranking_and_selection(config, workdir, data):
    result = select.run(config, workdir)
    source = open_source("own", str(data), "train")
    rows = list(csv.DictReader(result.ranking_csv.read_text().splitlines()))
    assert [row["class"] for row in rows] == ["ant"] * 7 + ["bee"] * 5 + ["cow"] * 6
    by_name = {row["img_path"]: float(row["score"]) for row in rows}
    np.testing.assert_array_equal([by_name[name] for name in source.names], result.scores)

    assert (result.scored, result.selection.indices.shape) == (18, (3, 4))
    for label in range(3):
        members = np.flatnonzero(source.labels == label)
        ascending = members[np.argsort(result.scores[members])]
        middle = -(-len(members) // 2)
        walk = [middle, middle + 1, middle - 1, middle + 2, middle - 2, middle - 3]
        expected = ascending[[at for at in walk if at < len(members)][:4]]
        np.testing.assert_array_equal(result.selection.indices[label], expected)
    found = read_selection(result.selection_csv, source)
    np.testing.assert_array_equal(found.indices, result.selection.indices)

    row = json.loads(workdir.metrics_jsonl.read_text())
    assert (row["stage"], row["images_scored"], row["mode"]) == ("select", 18, "medium")


def test_ranking_is_reused_without_a_teacher(config, workdir, tmp_path):
    first = select.run(config, workdir)
    config.select.update(ranking=str(first.ranking_csv), mode="top")
    config.ipc = 2
    again = select.run(config, WorkDir(tmp_path / "second"))
    assert again.scored == 0
    np.testing.assert_array_equal(again.scores, first.scores)
    assert again.ranking_csv.read_text() == first.ranking_csv.read_text()
    labels = open_source("own", config.data.source, "train").labels
    for label in range(3):
        best = np.sort(first.scores[labels == label])[:-3:-1]
        np.testing.assert_array_equal(again.selection.scores[label], best)


@pytest.mark.parametrize(
    ("path", "value", "kept"),
    [
        ("ipc", 5, True),
        ("select.mode", "top", True),
        ("select.images_per_class", 4, False),
        ("select.statistics", "imagenet", False),
    ],
)
def test_scores_are_kept_where_other_images_are_selected_by_them(
    config, workdir, path, value, kept, capsys
):
    first = select.run(config, workdir)
    before = first.ranking_csv.read_bytes()
    first.ranking_csv.unlink()
    first.selection_csv.unlink()
    config.update_from_flattened_dict({path: value})
    capsys.readouterr()
    again = select.run(config, workdir)
    assert again.selection.indices.shape == (3, config.ipc)
    assert (again.ranking_csv.read_bytes() == before) is kept
    said = capsys.readouterr().out
    assert ("ranking: kept, all 18 images are scored" in said) is kept
    assert ("is of another teacher, other images or other options; removed" in said) is not kept


def test_small_class_is_named_before_the_teacher_is_looked_for(config, tmp_path):
    config.ipc = 6
    with pytest.raises(InputError, match="class 'bee' has 5 images; expected at least ipc = 6"):
        select.run(config, WorkDir(tmp_path / "no teacher here"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("ant", "cow", "bee")}, "class 1 is 'cow' for the teacher and 'bee' in"),
        ({"class_names": ("ant", "bee", "elk")}, "class 2 is 'elk' for the teacher and 'cow' in"),
        ({"num_classes": 4, "class_names": ()}, "teacher conv3 has 4 classes, the data 3"),
    ],
)
def test_teacher_of_other_classes(teacher, change, message):
    source = ArraySource(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3), CLASSES)
    network = dataclasses.replace(teacher, **change)
    with pytest.raises(InputError, match=message):
        select.check_classes(network, source)


def test_teacher_without_class_names_passes(teacher):
    source = ArraySource(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3), CLASSES)
    select.check_classes(dataclasses.replace(teacher, class_names=()), source)


def test_unknown_mode(config, workdir):
    config.select.mode = "easiest"
    with pytest.raises(
        InputError, match=r"select\.mode: got 'easiest', expected one of medium, top"
    ):
        select.run(config, workdir)


@pytest.mark.slow
def test_shared_resnet20_scores_its_published_accuracy(shared_data, tmp_path):
    """91.73 % of the 10,000 test images, from a .safetensors file and an archive to logits."""
    command = [sys.executable, str(shared_data / "unpack.py"), "cifar10", str(tmp_path), "--npz"]
    subprocess.run(command, check=True)
    source = open_source("cifar10", str(tmp_path / "cifar10.npz"), "test")
    module = registry.create("cifar_resnet20", 10, 32)
    weights = read_state_dict(shared_data / "cifar10_resnet20-12fca82f.safetensors")
    variables = from_state_dict(module, 32, weights)
    mean, std = statistics("imagenet", SPECS["cifar10"])

    @jax.jit
    def predict(images):
        return module.apply(variables, (images / 255.0 - jnp.array(mean)) / jnp.array(std)).argmax(
            1
        )

    correct = sum(
        int((np.asarray(predict(images)) == labels).sum())
        for images, labels, *_ in batches(source, None, 500, 32)
    )
    assert correct == 9173
