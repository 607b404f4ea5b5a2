"""The relabel stage."""

import jax
import numpy as np
import pytest
from tiny_run import MEAN, STD, make_config, save_distilled, save_teacher

from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import relabel


def test_says_how_labels_come_about_and_what_the_teacher_thinks(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    teacher = save_teacher(workdir)
    images, labels = save_distilled(workdir, config)
    result = relabel.run(config, workdir)

    logits = teacher.apply((images / np.float32(255) - np.float32(MEAN)) / np.float32(STD))
    true = jax.nn.softmax(logits)[np.arange(6), labels]
    assert result.images == 6
    np.testing.assert_allclose(result.mean_true_class_probability, np.mean(true), rtol=1e-5)
    np.testing.assert_allclose(result.teacher_top1, 100 * np.mean(logits.argmax(1) == labels))

    written = workdir.read_json(workdir.labels / "labels.json")
    assert written["mode"] == "online"
    assert written["temperature"] == 20
    assert (written["mix"], written["mix_alpha"]) == ("cutmix", 1.0)
    assert written["teacher"] == "conv3"
    assert written["teacher_top1"] == result.teacher_top1


def test_needs_the_distilled_images(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    save_teacher(workdir)
    with pytest.raises(InputError, match=r"manifest\.json"):
        relabel.run(config, workdir)
