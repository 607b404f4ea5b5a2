"""The squeeze stage: a teacher trained, interrupted, imported, refused."""

import functools
import hashlib
import http.server
import threading

import jax
import numpy as np
import pytest
import safetensors.numpy
from tiny_run import CLASSES, SIZE, make_config, save_teacher, train_source

from delt_jax import pipeline
from delt_jax.data.pipeline import measure_statistics
from delt_jax.errors import InputError
from delt_jax.models import pretrained
from delt_jax.models.network import load_network
from delt_jax.models.torch_weights import to_state_dict
from delt_jax.runtime.metrics import MetricsLog, read_metrics
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import squeeze
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.fingerprint import fingerprint


def assert_same_weights(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)


@pytest.mark.four_devices
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
    # A data set that is not in the table: measured, and rounded as the table's are.
    measured = measure_statistics(train_source(config), SIZE)
    np.testing.assert_allclose((saved.mean, saved.std), measured, atol=5e-5)
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

    config.checkpoint_minutes = 0.0
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
    # Epoch 1 was done before the kill, epoch 2 all but its last steps.
    rows = [row for row in read_metrics(workdir.metrics_jsonl) if "epoch" in row]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert resumed.teacher.recipe["seconds"] > 0
    (stage,) = (stage for stage in pipeline.STAGES if stage.name == "squeeze")
    stage.remove_leftovers(workdir)
    assert sorted(path.name for path in workdir.teacher.iterdir()) == [
        "card.json",
        "weights.safetensors",
    ]


@pytest.mark.parametrize("hold_bytes", [0, 1 << 20])
def test_training_that_has_ended_is_not_lost_with_the_test(tmp_path, monkeypatch, hold_bytes):
    monkeypatch.setattr(CroppedImages.__init__, "__defaults__", (hold_bytes,))
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    measure = squeeze.measure_teacher

    def die(teacher, test):
        raise KilledError(teacher)

    monkeypatch.setattr(squeeze, "measure_teacher", die)
    # As an image that cannot be read: known by the end of the training, and of no other time.
    read = CroppedImages.batches
    problems = {3: "truncated"}

    def met(self, indices, batch_size):
        if indices is not None:  # in training
            self.problems.update(problems)
        return read(self, indices, batch_size)

    monkeypatch.setattr(CroppedImages, "batches", met)
    with pytest.raises(KilledError) as killed:
        squeeze.run(config, workdir)
    trained = killed.value.args[0]
    monkeypatch.setattr(squeeze, "measure_teacher", measure)
    monkeypatch.setattr(CroppedImages, "batches", read)
    epochs = read_metrics(workdir.metrics_jsonl)
    resumed = squeeze.run(config, workdir).teacher
    assert_same_weights(resumed, trained)
    assert [r for r in read_metrics(workdir.metrics_jsonl) if "epoch" in r] == epochs
    assert resumed.recipe["train_images"] == trained.recipe["train_images"]
    assert workdir.unreadable_csv.exists() == (hold_bytes == 0)


def test_another_recipe_does_not_take_up_the_checkpoint(tmp_path):
    config = make_config(tmp_path)
    one = fingerprint({"seed": config.seed}, np.zeros(3))
    assert one != fingerprint({"seed": config.seed + 1}, np.zeros(3))
    assert one != fingerprint({"seed": config.seed}, np.zeros(3, np.float32))
    assert one == fingerprint({"seed": config.seed}, np.zeros(3))


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
    assert imported.recipe["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path) not in str(imported.recipe)

    config.teacher.arch = "conv4"
    config.data.image_size = 16
    with pytest.raises(InputError, match=r"weights\.safetensors.*missing.*layers\.conv\.3"):
        squeeze.run(config, WorkDir(tmp_path / "mismatch"))


@pytest.fixture
def web(tmp_path):
    """A folder and the address under which its files are served."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_weights_by_address_and_by_name(tmp_path, web, monkeypatch):
    folder, address = web
    monkeypatch.setenv("DELT_JAX_CACHE", str(tmp_path / "cache"))
    config = make_config(tmp_path)
    trained = squeeze.run(config, WorkDir(tmp_path / "trained")).teacher
    content = safetensors.numpy.save(to_state_dict(trained.variables))
    name = f"conv3-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"
    (folder / name).write_bytes(content)

    config.teacher.weights = address + name
    by_address = squeeze.run(config, WorkDir(tmp_path / "address")).teacher
    assert_same_weights(by_address, trained)
    assert by_address.recipe["weights"] == address + name
    assert by_address.mean == trained.mean  # the data set's, for want of better

    monkeypatch.setattr(pretrained, "_TORCHVISION", address)
    monkeypatch.setitem(pretrained._FILES["torchvision"], "conv3", {"V1": name, "V2": "v2-" + name})
    config.teacher.weights = "torchvision"
    by_name = squeeze.run(config, WorkDir(tmp_path / "name")).teacher
    assert_same_weights(by_name, trained)
    assert by_name.mean == pretrained.IMAGENET[0]  # its publisher's
    config.teacher.weights = "torchvision:V2"
    with pytest.raises(InputError, match=r"v2-conv3.*404 File not found"):
        squeeze.run(config, WorkDir(tmp_path / "missing"))


def test_adopts_the_teacher_of_another_run(tmp_path):
    config, there = make_config(tmp_path), WorkDir(tmp_path / "trained")
    trained = squeeze.run(config, there).teacher
    config.teacher.weights = str(there.teacher)
    adopted = squeeze.run(config, WorkDir(tmp_path / "adopted")).teacher
    assert_same_weights(adopted, trained)
    assert (adopted.top1, adopted.mean, adopted.std) == (trained.top1, trained.mean, trained.std)
    assert adopted.recipe["epochs"] == 3  # how it was trained stays on its card

    config.teacher.arch = "conv3_w32"
    with pytest.raises(InputError, match=r"card\.json: arch conv3, expected conv3_w32"):
        squeeze.run(config, WorkDir(tmp_path / "mismatch"))


def test_input_statistics_can_be_given_as_numbers(tmp_path):
    config = make_config(tmp_path)
    config.teacher.statistics = "0.498/0.502"
    teacher = squeeze.run(config, WorkDir(tmp_path / "run")).teacher
    assert (teacher.mean, teacher.std) == ((0.498,) * 3, (0.502,) * 3)


def test_streamed_images_train_the_same_teacher_as_held_ones(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    held = squeeze.run(config, WorkDir(tmp_path / "held")).teacher
    monkeypatch.setattr(CroppedImages.__init__, "__defaults__", (0,))
    streamed = squeeze.run(config, WorkDir(tmp_path / "streamed")).teacher
    assert_same_weights(held, streamed)


def test_every_option_of_a_recipe_is_used(tmp_path):
    config = make_config(tmp_path)
    squeezed = config.teacher.squeeze
    squeezed.crop, squeezed.min_scale, squeezed.stored_side = "resized", 0.5, 12
    squeezed.cutmix_probability, squeezed.average_decay = 0.5, 0.9
    squeezed.compute_dtype = "bfloat16"
    squeezed.epochs = 6
    teacher = squeeze.run(config, WorkDir(tmp_path / "run")).teacher
    assert teacher.top1 > 60
    for name in ("crop", "stored_side", "cutmix_probability", "average_decay", "compute_dtype"):
        assert teacher.recipe[name] == squeezed[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher.arch": "conv33"}, "conv33.*conv3"),
        ({"teacher.weights": "nowhere.safetensors"}, "nowhere.*no such file"),
        ({"teacher.statistics": "mnist"}, "mnist.*dataset"),
        ({"teacher.squeeze.epochs": 0}, r"squeeze\.epochs: got 0, expected a whole number from 1"),
        ({"data.source": "nowhere.npz"}, "nowhere"),
    ],
)
def test_refuses_before_it_computes(tmp_path, change, message):
    config = make_config(tmp_path)
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        squeeze.run(config, WorkDir(tmp_path / "run"))
    assert not (tmp_path / "run" / "teacher").exists()


def test_splits_in_another_order_are_refused_before_training(tmp_path, monkeypatch):
    opened = squeeze.open_split

    def open_split(config, spec, split, *size):
        source = opened(config, spec, split, *size)
        source.class_names = CLASSES if split == "train" else CLASSES[::-1]
        return source

    monkeypatch.setattr(squeeze, "open_split", open_split)
    monkeypatch.setattr(squeeze, "train_teacher", None)
    with pytest.raises(InputError, match="class 0 is 'blue' for the test images and 'red' for the"):
        squeeze.run(make_config(tmp_path), WorkDir(tmp_path / "run"))


def test_divergence_is_named(tmp_path):
    config = make_config(tmp_path)
    config.teacher.squeeze.learning_rate = 1e30
    with pytest.raises(InputError, match=r"conv3: the loss became .* in epoch \d of 3"):
        squeeze.run(config, WorkDir(tmp_path / "run"))


def test_a_teacher_whose_logits_overflow_is_refused(tmp_path):
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    teacher = save_teacher(workdir)
    classifier = teacher.variables["params"]["classifier"]
    classifier["kernel"] = np.full_like(classifier["kernel"], 3e38)
    with pytest.raises(InputError, match="teacher conv3: its logits of test images are not finite"):
        squeeze.measure_teacher(teacher, CroppedImages(train_source(config), SIZE))
