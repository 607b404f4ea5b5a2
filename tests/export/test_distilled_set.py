"""Opening a distilled set for export, from wherever it lies."""

import json
import shutil

import numpy as np
import pytest
from digits_set import MEAN, NAMES, STD, write_digits

from delt_jax.data.specs import IMAGENET_MEAN, IMAGENET_STD, SPECS
from delt_jax.errors import InputError
from delt_jax.export import formats
from delt_jax.export.distilled_set import DistilledSet


@pytest.fixture
def run(tmp_path):
    write_digits(tmp_path / "run" / "distilled")
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


def test_work_directory_distilled_folder_or_one_moved_away(run, tmp_path):
    for source in (run, run / "distilled", str(run)):
        opened = DistilledSet.open(source)
        assert opened.class_names == NAMES
        assert opened.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
        assert opened.workdir is not None and opened.workdir.path.samefile(run)
    shutil.copytree(run / "distilled", tmp_path / "distilled")
    moved = DistilledSet.open(tmp_path / "distilled")
    assert moved.workdir is None
    with pytest.raises(InputError, match=r"need the teacher; expected the work directory"):
        moved.logits()


def test_statistics(run):
    opened = DistilledSet.open(run)
    assert opened.statistics("teacher") == (MEAN, STD)
    assert opened.statistics("imagenet") == (IMAGENET_MEAN, IMAGENET_STD)
    assert opened.statistics("dataset") == (SPECS["digits"].mean, SPECS["digits"].std)
    assert opened.statistics("0.5/0.25") == ((0.5,) * 3, (0.25,) * 3)
    with pytest.raises(InputError, match="statistics 'cifar'"):
        opened.statistics("cifar")
    opened.header.update(data="birds")
    with pytest.raises(InputError, match="'birds' is not in the table"):
        opened.statistics("dataset")
    del opened.header["mean"]
    with pytest.raises(InputError, match=r"no mean and std; expected .* imagenet"):
        opened.statistics("teacher")


def edit(run, change):
    path = run / "distilled" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(images=m["images"][8:]), "no image of class 0"),
        (lambda m: m.update(images=[]), "no image of class 0"),
        (lambda m: m["images"][0].update(slot="../../x"), "expected numbers from 0, and texts"),
        (lambda m: m["images"][0].update(class_index=True), "expected numbers from 0, and texts"),
        (lambda m: m["images"][0].update(file="../x.png"), "expected a path below"),
        (lambda m: m.update(export={"format": "npz"}), "an export that holds no image files"),
    ],
)
def test_a_manifest_that_is_none_of_ours(run, change, message):
    edit(run, change)
    with pytest.raises(InputError, match=message):
        DistilledSet.open(run)


def test_nothing_to_open(tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json; expected a work directory"):
        DistilledSet.open(tmp_path)


def test_soft_labels_are_the_teachers_logits(tmp_path):
    from tiny_run import make_config, save_distilled, save_teacher

    from delt_jax.runtime.workdir import WorkDir

    workdir = WorkDir(tmp_path / "run")
    teacher = save_teacher(workdir)
    images, _ = save_distilled(workdir, make_config(tmp_path))
    expected = teacher.apply((images / np.float32(255) - 0.5) / 0.25)
    found = DistilledSet.open(workdir.path).logits()
    assert found.dtype == np.float32 and found.shape == (6, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_changed_image_is_no_longer_exported(run, tmp_path):
    path = next((run / "distilled" / "train").rglob("*.png"))
    path.write_bytes(b"")
    with pytest.raises(InputError, match=f"{path.name}: changed"):
        formats.export(run, tmp_path / "out", ["npz"])
    assert not any((tmp_path / "out").iterdir())
