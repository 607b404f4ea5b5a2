"""Rankings: scores, interruptions, unreadable images, views."""

import csv
import dataclasses
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from delt_jax.data.arrays import ArraySource
from delt_jax.data.image_folder import open_image_folder
from delt_jax.data.patches import RandomCrops
from delt_jax.data.selection import write_ranking
from delt_jax.data.specs import IMAGENET_MEAN, IMAGENET_STD
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import Network, save_network
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import partial_ranking, ranking
from delt_jax.stages.partial_ranking import Part

CLASSES = ("ant", "bee", "cow")
CHANNELS = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def teacher():
    module = registry.create("conv3", 3, 8)
    images = np.zeros((1, 8, 8, 3), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    return Network("conv3", 3, 8, variables, *CHANNELS, CLASSES)


@pytest.fixture
def workdir(tmp_path):
    return WorkDir(tmp_path / "run")


@pytest.fixture
def source(tmp_path):
    """Eight noisy images of each class, in files."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = tmp_path / "data" / "train" / name
        folder.mkdir(parents=True)
        for number in range(8):
            image = Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8))
            image.save(folder / f"{number}.png")
    return open_image_folder(tmp_path / "data", "train")


def rank(teacher, source, workdir, batch_size=4, **options):
    return ranking.rank(
        teacher, source, CHANNELS, batch_size, 8, workdir, **{"workers": 0, **options}
    )


def discard(workdir):
    """Removes what the pipeline removes."""
    shutil.rmtree(workdir.path / partial_ranking.FOLDER)


def stop_after(monkeypatch, count, reason=KeyboardInterrupt):
    """Lets a ranking take down the scores of `count` batches, then stops it."""
    append, done = Part.append, []

    def append_or_stop(*args):
        if len(done) == count:
            raise reason
        done.append(append(*args))

    monkeypatch.setattr(Part, "append", append_or_stop)


@pytest.mark.parametrize("channels", [CHANNELS, (IMAGENET_MEAN, IMAGENET_STD)])
def test_scores_are_the_teachers(teacher, workdir, channels):
    images = np.random.default_rng(1).integers(0, 256, (11, 8, 8, 3), np.uint8)
    labels = np.arange(11) % 3
    source = ArraySource(images, labels, CLASSES)
    scores = ranking.rank(teacher, source, channels, 4, 8, workdir).scores
    mean, std = channels
    logits = np.asarray(teacher.apply(((images / 255 - mean) / std).astype(np.float32)), float)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        scores, (odds / odds.sum(1, keepdims=True))[range(11), labels], rtol=1e-4
    )


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.four_devices
def test_batch_sizes_that_suit_neither_devices_nor_images(teacher, source, workdir, batch_size):
    expected = rank(teacher, source, workdir).scores
    found = rank(teacher, source, workdir, batch_size).scores
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_workers_change_no_bit(teacher, source, workdir):
    alone = rank(teacher, source, workdir).scores
    discard(workdir)
    np.testing.assert_array_equal(rank(teacher, source, workdir, workers=2).scores, alone)


def test_score_that_is_not_finite_names_the_image(teacher, workdir):
    source = ArraySource(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3), CLASSES)
    broken = dataclasses.replace(
        teacher, variables=jax.tree.map(lambda leaf: leaf * np.nan, teacher.variables)
    )
    with pytest.raises(InputError, match=r"score of image 'ant/00000\.png' is not finite"):
        rank(broken, source, workdir)


def test_goes_on_from_the_border_of_a_batch(teacher, source, workdir, monkeypatch, capsys):
    expected = rank(teacher, source, WorkDir(workdir.path / "other")).scores
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            rank(teacher, source, workdir)
    capsys.readouterr()
    seen = []
    batches = ranking.batches
    monkeypatch.setattr(
        ranking, "batches", lambda *args, **kw: seen.append(args[1]) or batches(*args, **kw)
    )
    found = rank(teacher, source, workdir)
    np.testing.assert_array_equal(found.scores, expected)
    assert seen[0].tolist() == list(range(8, 24))
    assert capsys.readouterr().out == "ranking: going on from image 8 of 24\n"
    # What is done stays until ranking.csv is written, and then costs nothing.
    np.testing.assert_array_equal(rank(teacher, source, workdir).scores, expected)
    assert len(seen) == 1
    discard(workdir)
    assert list(workdir.path.glob("*ranking*")) == []


@pytest.mark.parametrize("change", ["teacher", "labels", "channels", "batch_size", "views"])
def test_another_ranking_is_not_gone_on_with(teacher, source, workdir, monkeypatch, capsys, change):
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            rank(teacher, source, workdir)
    options = {"batch_size": 4, "views": None}
    channels = CHANNELS
    if change == "teacher":
        variables = jax.tree.map(lambda leaf: leaf * 1.01, teacher.variables)
        teacher = dataclasses.replace(teacher, variables=variables)
    elif change == "labels":
        source.labels = source.labels[::-1].copy()
    elif change == "channels":
        channels = (IMAGENET_MEAN, IMAGENET_STD)
    else:
        options[change] = {"batch_size": 8, "views": RandomCrops(2, 8, seed=0)}[change]
    size, views = options.values()
    other = WorkDir(workdir.path / "other")
    expected, found = (
        ranking.rank(teacher, source, channels, size, 8, place, views=views, workers=0).scores
        for place in (other, workdir)
    )
    np.testing.assert_array_equal(found, expected)
    assert "of another teacher, other images or other options; removed" in capsys.readouterr().out


def cut_short(content):
    return content[:-100]


def of_another_compression(content):
    entry = content.index(b"PK\x01\x02") + 10  # of the central directory: the method
    return content[:entry] + b"\x63" + content[entry + 1 :]


def a_bit_turned(content):
    place = content.index(b"scores.npy") + 200
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut_short, of_another_compression, a_bit_turned])
def test_a_damaged_partial_ranking_is_made_anew(teacher, source, workdir, capsys, damage):
    expected = rank(teacher, source, workdir).scores
    (partial,) = (workdir.path / partial_ranking.FOLDER).iterdir()
    partial.write_bytes(damage(partial.read_bytes()))
    np.testing.assert_array_equal(rank(teacher, source, workdir).scores, expected)
    assert "00000000.npz is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "", "x"), PermissionError(errno.EACCES, "", "x"), MemoryError()]
)
def test_a_fault_of_the_machine_is_no_damage_of_a_partial_ranking(
    teacher, source, workdir, monkeypatch, error
):
    rank(teacher, source, workdir)
    (partial,) = (workdir.path / partial_ranking.FOLDER).iterdir()

    def fail(path):
        raise error

    monkeypatch.setattr(pathlib.Path, "read_bytes", fail)
    with pytest.raises(type(error)):
        rank(teacher, source, workdir)
    assert partial.exists()


def test_unreadable_images_have_no_score_and_are_named(
    teacher, source, workdir, tmp_path, monkeypatch, caplog
):
    complete = rank(teacher, source, WorkDir(tmp_path / "complete")).scores
    for name in ("ant/7.png", "bee/0.png"):
        (tmp_path / "data" / "train" / name).write_bytes(b"not an image")
    with monkeypatch.context() as patch:  # those met before an interruption are not forgotten
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            rank(teacher, source, workdir)
    scores = rank(teacher, source, workdir).scores
    assert np.flatnonzero(np.isnan(scores)).tolist() == [7, 8]
    readable = ~np.isnan(scores)
    np.testing.assert_array_equal(scores[readable], complete[readable])
    (message,) = caplog.messages
    assert message.startswith("ranking: 2 of 24 images could not be read and were left out")
    rows = list(csv.DictReader(workdir.unreadable_csv.read_text().splitlines()))
    assert [row["img_path"] for row in rows] == ["ant/7.png", "bee/0.png"]
    write_ranking(workdir, source, scores)
    assert len(workdir.ranking_csv.read_text().splitlines()) == 23

    with pytest.raises(InputError, match=r"ant/7\.png: cannot be read"):
        rank(teacher, source, workdir, strict=True)


@pytest.mark.parametrize("side", [8, 5])
def test_the_best_view_counts(teacher, source, workdir, side):
    views = RandomCrops(3, side, seed=4)
    found = rank(teacher, source, workdir, 8, views=views)
    before = (8 - side) // 2
    inside = slice(before, before + side)
    for index in (0, 13, 23):
        crops, boxes = views(source[index], source.names[index])
        inputs = np.zeros((3, 8, 8, 3), np.float32)
        inputs[:, inside, inside] = (crops / 255 - CHANNELS[0]) / CHANNELS[1]
        probabilities = np.asarray(jax.nn.softmax(teacher.apply(inputs)))[:, source.labels[index]]
        np.testing.assert_allclose(found.scores[index], probabilities.max(), rtol=1e-4)
        np.testing.assert_array_equal(found.boxes[index], boxes[probabilities.argmax()])


SCRIPT = """
import os, pathlib, shutil, signal, sys
from delt_jax.data.image_folder import open_image_folder
from delt_jax.data.selection import write_ranking
from delt_jax.models.network import load_network
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import partial_ranking, ranking
from delt_jax.stages.partial_ranking import Part

if __name__ == "__main__":
    folder, place, teacher, batches, workers = sys.argv[1:]
    append, done = Part.append, []

    def append_or_die(*args):
        if len(done) == int(batches):
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(append(*args))

    Part.append = append_or_die
    source, workdir, network = (
        open_image_folder(pathlib.Path(folder), "train"),
        WorkDir(place),
        load_network(teacher),
    )
    found = ranking.rank(
        *(network, source, (network.mean, network.std), 4, 8, workdir),
        workers=int(workers),
        save_minutes=0,
    )
    write_ranking(workdir, source, found.scores)
    shutil.rmtree(workdir.path / partial_ranking.FOLDER)
"""


@pytest.mark.slow
def test_killed_and_finished_it_is_the_same_ranking(teacher, source, tmp_path):
    save_network(teacher, tmp_path / "teacher")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "data" / "train" / "ant" / "1.png").write_bytes(b"not an image")

    def run(place, batches, workers=0):
        command = [sys.executable, tmp_path / "script.py", tmp_path / "data", tmp_path / place]
        command += [tmp_path / "teacher", batches, workers]
        return subprocess.run(
            list(map(str, command)),
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=300,
        )

    assert run("once", 99).returncode == 0
    for batches, workers in ((1, 2), (3, 0)):
        killed = run("twice", batches, workers)
        assert killed.returncode == -signal.SIGKILL
        assert (tmp_path / "twice" / partial_ranking.FOLDER).is_dir()
        assert not (tmp_path / "twice" / "ranking.csv").exists()
    finished = run("twice", 99)
    assert finished.returncode == 0, finished.stderr
    assert "ranking: going on from image 16 of 24" in finished.stdout
    for name in ("ranking.csv", "unreadable.csv"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert not (tmp_path / "twice" / partial_ranking.FOLDER).exists()
