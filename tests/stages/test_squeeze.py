"""The squeeze stage: a teacher trained, interrupted, imported, refused."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from tiny_run import CLASSES, SIZE, make_config

from delt_jax.errors import InputError
from delt_jax.models.network import load_network
from delt_jax.models.torch_weights import to_state_dict
from delt_jax.runtime.metrics import MetricsLog, read_metrics
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import squeeze


def assert_same_weights(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


def test_trains_a_teacher_and_writes_its_card(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    result = squeeze.run(config, workdir)
    assert result.teacher.top1 > 90
    assert len(result.per_class) == 3
    saved = load_network(workdir.teacher)
    assert_same_weights(saved, result.teacher)
    assert (saved.arch, saved.num_classes, saved.image_size) == ("conv3", 3, SIZE)
    assert saved.class_names == CLASSES
    assert saved.top1 == result.teacher.top1
    assert saved.mean == (0.485, 0.456, 0.406)  # a data set that is not in the table
    assert saved.recipe["epochs"] == 3
    assert saved.recipe["learning_rate"] == 0.02
    assert saved.recipe["test_images"] == 14
    assert saved.recipe["seconds"] > 0
    epochs = [row["epoch"] for row in read_metrics(workdir.metrics_jsonl) if "epoch" in row]
    assert epochs == [1, 2, 3]


class KilledError(Exception):
    """Stands for a kill."""


def test_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    whole = squeeze.run(config, WorkDir(tmp_path / "whole"))

    monkeypatch.setattr(squeeze, "SAVE_SECONDS", 0.0)
    workdir = WorkDir(tmp_path / "broken")
    write, calls = MetricsLog.write, []

    def write_or_die(self, stage, **values):
        calls.append(values)
        if len(calls) == 2:
            raise KilledError
        write(self, stage, **values)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", write_or_die)
        with pytest.raises(KilledError):
            squeeze.run(config, workdir)
    (checkpoints,) = workdir.teacher.glob(".training-*")
    assert any(checkpoints.iterdir())
    assert not (workdir.teacher / "card.json").exists()

    resumed = squeeze.run(config, workdir)
    assert_same_weights(resumed.teacher, whole.teacher)
    # Epochs 1 and 2 were done before the kill; only the third ran again.
    assert [row["epoch"] for row in read_metrics(workdir.metrics_jsonl) if "epoch" in row] == [1, 3]
    assert not list(workdir.teacher.glob(".training-*"))


def test_another_recipe_does_not_take_up_the_checkpoint(tmp_path):
    config = make_config(tmp_path)
    one = squeeze.fingerprint({"seed": config.seed}, np.zeros(3))
    assert one != squeeze.fingerprint({"seed": config.seed + 1}, np.zeros(3))
    assert one != squeeze.fingerprint({"seed": config.seed}, np.zeros(3, np.float32))
    assert one == squeeze.fingerprint({"seed": config.seed}, np.zeros(3))


def test_imports_weights_and_measures_them(tmp_path):
    config = make_config(tmp_path)
    trained = squeeze.run(config, WorkDir(tmp_path / "trained")).teacher
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(to_state_dict(trained.variables), path)
    config.teacher.weights = str(path)
    imported = squeeze.run(config, WorkDir(tmp_path / "imported")).teacher
    assert_same_weights(imported, trained)
    assert imported.top1 == trained.top1
    assert imported.recipe["weights"] == "weights.safetensors"
    assert str(tmp_path) not in str(imported.recipe)

    config.teacher.arch = "conv4"
    config.data.image_size = 16
    with pytest.raises(InputError, match=r"weights\.safetensors.*missing.*layers\.conv\.3"):
        squeeze.run(config, WorkDir(tmp_path / "mismatch"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher.arch": "conv33"}, "conv33.*conv3"),
        ({"teacher.weights": "nowhere.safetensors"}, "nowhere.*no such file"),
        ({"teacher.statistics": "mnist"}, "mnist.*dataset"),
        ({"teacher.squeeze.epochs": 0}, r"squeeze\.epochs 0: expected at least 1"),
        ({"data.source": "nowhere.npz"}, "nowhere"),
    ],
)
def test_refuses_before_it_computes(tmp_path, change, message):
    config = make_config(tmp_path)
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        squeeze.run(config, WorkDir(tmp_path / "run"))
    assert not (tmp_path / "run" / "teacher").exists()


def test_divergence_is_named(tmp_path):
    config = make_config(tmp_path)
    config.teacher.squeeze.learning_rate = 1e30
    with pytest.raises(InputError, match=r"conv3: the loss became .* in epoch \d of 3"):
        squeeze.run(config, WorkDir(tmp_path / "run"))
