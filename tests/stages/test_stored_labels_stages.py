"""Students of stored labels: what relabel writes, and what evaluate makes of it."""

import dataclasses
import hashlib

import jax
import numpy as np
import pytest
from tiny_run import (
    MEAN,
    SIZE,
    STD,
    make_config,
    save_distilled,
    save_teacher,
    train_source,
)

from delt_jax.core import training
from delt_jax.core.augment.stored_views import show
from delt_jax.core.torch_order import sampler_orders
from delt_jax.errors import InputError
from delt_jax.export.label_coding import LabelCoding
from delt_jax.models import registry
from delt_jax.models.network import load_network
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import device_pool, evaluate, labelling, protocol, relabel, student
from delt_jax.stages import options as table
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.opening import describe


@pytest.fixture
def prepared(tmp_path):
    """A config of stored labels, a work directory as synthesize leaves it, the distilled images."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    config.ipc = 3
    config.evaluate.labels, config.evaluate.sets = ("stored",), ("distilled",)
    config.evaluate.epochs, config.evaluate.batch_size = 2, 4
    save_teacher(workdir)
    images, _ = save_distilled(workdir, config)
    return config, workdir, images


def files_of(config, workdir, images):
    teacher = load_network(workdir.teacher)
    return labelling.plan_labels(config, workdir, describe(config), teacher, images)


def stamps(workdir):
    return {p.name: p.stat().st_mtime_ns for p in workdir.labels.glob("*.safetensors")}


@pytest.mark.four_devices
def test_stores_the_teachers_logits_of_the_shown_images(prepared):
    config, workdir, images = prepared
    relabel.run(config, workdir)
    files, used = files_of(config, workdir, images)
    teacher = load_network(workdir.teacher)
    orders = []
    for epoch in range(2):
        order, labels = files.read(epoch)
        pixels = show(images, labels.views, np.arange(9))
        logits = teacher.apply((pixels - np.float32(MEAN)) / np.float32(STD))
        np.testing.assert_allclose(labels.logits, logits, rtol=1e-3, atol=1e-4)
        assert np.ptp(labels.logits, axis=0).max() > 5e-3  # which depend on the image
        orders.append(order)
        for batch in (order[:4], order[4:8], order[8:]):
            assert sorted(labels.views.partners[batch]) == sorted(batch)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(9))
    assert (orders[0] != orders[1]).any()

    written = workdir.read_json(workdir.labels / "labels.json")
    assert written["mode"] == "stored"
    stored = written["stored"]
    assert (stored["images"], stored["size"], stored["classes"]) == (9, SIZE, 3)
    assert (stored["mean"], stored["order_seed"]) == (list(MEAN), 42)
    assert stored["images_sha256"] == hashlib.sha256(images.tobytes()).hexdigest()
    assert (stored["epochs"], stored["batch_size"], stored["views"]["cutmix"]) == (2, 4, 1.0)
    assert stored["bytes"] == sum(p.stat().st_size for p in workdir.labels.glob("*.safetensors"))
    assert used.views is not None and used.views.randaugment_ops == 0


def test_goes_on_where_it_was_stopped(prepared):
    config, workdir, images = prepared
    config.evaluate.labels = ("soft",)
    relabel.run(config, workdir)
    record = workdir.labels / "labels.json"
    assert workdir.read_json(record)["mode"] == "online" and not stamps(workdir)
    config.evaluate.labels = ("soft", "stored")
    relabel.run(config, workdir)
    before = stamps(workdir)
    whole = files_of(config, workdir, images)[0].read(1)[1]

    (workdir.labels / "epoch_0001.safetensors").unlink()
    relabel.run(config, workdir)
    after = stamps(workdir)
    assert after["epoch_0000.safetensors"] == before["epoch_0000.safetensors"]
    again = files_of(config, workdir, images)[0].read(1)[1]
    jax.tree.map(np.testing.assert_array_equal, again, whole)

    config.seed = 5  # all are drawn anew
    relabel.run(config, workdir)
    assert all(stamps(workdir)[name] != stamp for name, stamp in after.items())
    drawn = files_of(config, workdir, images)[0].read(1)[1]
    assert (drawn.views.crops != whole.views.crops).any()


def test_the_order_is_that_of_its_seed_and_the_views_are_not(prepared):
    config, workdir, images = prepared
    relabel.run(config, workdir)
    files, _ = files_of(config, workdir, images)
    before = [files.read(epoch) for epoch in range(2)]
    for (order, _), expected in zip(before, sampler_orders(42, 9), strict=False):
        np.testing.assert_array_equal(order, expected)
    config.labels.order_seed = 3
    relabel.run(config, workdir)
    order, labels = files_of(config, workdir, images)[0].read(0)
    np.testing.assert_array_equal(order, next(sampler_orders(3, 9)))
    np.testing.assert_array_equal(labels.views.crops, before[0][1].views.crops)
    assert (labels.views.partners != before[0][1].views.partners).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": -1}, r"labels\.epochs: got -1"),
        ({"order_seed": 2**32}, r"labels\.order_seed: got 4294967296"),
        ({"top_k": -1}, r"labels\.top_k: got -1"),
        ({"dtype": "float8"}, r"labels\.dtype: got 'float8'"),
    ],
)
def test_options_out_of_range_are_named(tmp_path, options, words):
    config = make_config(tmp_path)
    config.labels.update(options)
    with pytest.raises(InputError, match=words):
        table.check(config.labels, "labels")


def test_as_many_logits_as_classes_are_all(tmp_path):
    config = make_config(tmp_path)
    config.labels.top_k = 3
    assert labelling.coding_of(config.labels, 3, 20.0) == LabelCoding()
    assert labelling.coding_of(config.labels, 4, 20.0) == LabelCoding(3, "float16", 20.0)


def test_a_set_that_does_not_fit_is_labelled_in_parts(prepared, monkeypatch):
    config, workdir, images = prepared
    relabel.run(config, workdir)
    files, _ = files_of(config, workdir, images)
    whole = files.read(0)[1]
    files.path(0).unlink()
    monkeypatch.setattr(device_pool, "pool_bytes", lambda: 0)
    monkeypatch.setattr(labelling, "CPU_TEST_BATCH_SIZE", 4)
    relabel.run(config, workdir)
    in_parts = files.read(0)[1]
    np.testing.assert_allclose(in_parts.logits, whole.logits, rtol=1e-3, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, in_parts.views, whole.views)


@pytest.mark.parametrize(
    "options", [pytest.param({}, marks=pytest.mark.slow), {"epochs": 1, "dtype": "int8"}], ids=str
)
def test_a_student_learns_as_by_hand(prepared, x64, tmp_path, options):
    """From the very views: shown, labelled by the teacher, rounded as kept, learned online."""
    config, workdir, images = prepared
    config.labels.update(options)
    relabel.run(config, workdir)
    files, used = files_of(config, workdir, images)
    teacher = load_network(workdir.teacher)
    used = dataclasses.replace(used, batch_size=6)  # not that of the labels
    trainer = student.StudentTrainer("conv3", teacher, used, SIZE)
    test = CroppedImages(train_source(config), SIZE)
    sets = [student.LabelledImages(images)]
    (trained,) = trainer.train_together(sets, [3], test, tmp_path / "one", stored=files)

    module, optimizer = teacher.module, used.make_optimizer()
    variables = registry.initialise(module, SIZE, stream(3, "student", "init"))
    state = training.create_state(optimizer, variables, False)
    step = jax.jit(
        lambda state, images, labels, rate: training.student_step(
            module.apply, optimizer, state, images, labels, rate
        )
    )
    losses = []
    for epoch in range(2):
        order, labels = files.read(epoch % files.epochs)
        rate = training.student_learning_rate(used.learning_rate, epoch, 2, 2.0)
        total = 0.0
        for batch in (order[:6], order[6:]):
            inputs = (show(images, labels.views, batch) - np.array(MEAN)) / np.array(STD)
            logits = np.asarray(teacher.apply(inputs)).astype(np.float16).astype(float)
            middle, scale = 0.0, 0.0
            if options:
                low, high = logits.min(axis=1, keepdims=True), logits.max(axis=1, keepdims=True)
                middle, scale = (low + high) / 2, (high - low) / 254
            error = np.abs(labels.logits[batch] - (logits - middle))
            assert (error <= 1e-4 + 1e-3 * np.abs(logits) + scale / 2).all()
            # The very labels that were stored: those of a float32 run may round otherwise.
            state, loss = step(state, inputs, labels.logits[batch].astype(float), rate)
            total += len(batch) * float(loss)
        losses.append(total / 9)
    np.testing.assert_allclose(trained.curve.loss, losses, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        trained.variables,
        state.trained,
    )


@pytest.mark.slow
def test_seeds_that_train_at_once_are_those_that_train_alone(prepared, x64, tmp_path, monkeypatch):
    config, workdir, images = prepared
    relabel.run(config, workdir)
    files, used = files_of(config, workdir, images)
    used = dataclasses.replace(used, batch_size=3)
    trainer = student.StudentTrainer("conv3", load_network(workdir.teacher), used, SIZE)
    test = CroppedImages(train_source(config), SIZE)

    def train(seeds, name):
        sets = [student.LabelledImages(images)] * len(seeds)
        return trainer.train_together(sets, seeds, test, tmp_path / name, stored=files)

    one, other = (train([seed], f"{seed}")[0] for seed in (1, 2))
    assert (one.curve.loss != other.curve.loss).all()
    monkeypatch.setattr(
        device_pool, "pool_bytes", lambda: 0
    )  # batch follows batch, partners with it
    together = train([1, 2], "both")
    for alone, beside in zip((one, other), together, strict=True):
        np.testing.assert_allclose(beside.curve.loss, alone.curve.loss, rtol=1e-6)


def test_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(prepared, tmp_path, monkeypatch):
    config, workdir, images = prepared
    config.evaluate.batch_size, config.evaluate.epochs = 3, 3
    relabel.run(config, workdir)
    files, used = files_of(config, workdir, images)
    trainer = student.StudentTrainer("conv3", load_network(workdir.teacher), used, SIZE)
    test, sets = CroppedImages(train_source(config), SIZE), [student.LabelledImages(images)]
    (whole,) = trainer.train_together(sets, [1], test, tmp_path / "whole", stored=files)

    class KilledError(Exception):
        pass

    def kill(epoch, losses, top1):
        if epoch == 1:  # epoch 0 has been saved
            raise KilledError

    with pytest.raises(KilledError):
        trainer.train_together(
            sets, [1], test, tmp_path / "killed", kill, stored=files, save_minutes=0
        )
    (resumed,) = trainer.train_together(sets, [1], test, tmp_path / "killed", stored=files)
    np.testing.assert_array_equal(resumed.curve.loss, whole.curve.loss)


def test_evaluates_students_of_the_distilled_images_alone(prepared, capsys):
    config, workdir, _ = prepared
    config.evaluate.update({"epochs": 1, "batch_size": 9, "seeds": (1,), "real_images": 0})
    config.evaluate.sets = ("distilled", "random")
    relabel.run(config, workdir)
    result = evaluate.run(config, workdir)
    assert [(run.set, run.labels) for run in result.runs] == [("distilled", "stored")]
    assert "stored labels from the distilled images alone" in capsys.readouterr().out
    path = workdir.evaluation / "distilled-conv3-1-stored.json"
    written = workdir.read_json(path)
    assert (written["labels"], written["protocol"]["labels"]) == ("stored", "stored")

    # Kept while the labels are; other labels make another student.
    stamp = path.stat().st_mtime_ns
    evaluate.run(config, workdir)
    assert path.stat().st_mtime_ns == stamp
    config.seed = 9
    with pytest.raises(InputError, match="of another set, teacher or options"):
        evaluate.run(config, workdir)
    relabel.run(config, workdir)
    evaluate.run(config, workdir)
    assert workdir.read_json(path)["fingerprint"] != written["fingerprint"]


def test_needs_the_labels(prepared):
    config, workdir, _ = prepared
    with pytest.raises(InputError, match=r"epoch_0000\.safetensors: cannot be read"):
        evaluate.run(config, workdir)


def test_a_teacher_out_of_bounds_is_named(prepared):
    config, workdir, images = prepared
    files, used = files_of(config, workdir, images)
    teacher = load_network(workdir.teacher)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, teacher.variables)
    teacher = dataclasses.replace(teacher, variables=broken)
    with pytest.raises(InputError, match="teacher conv3: a logit"):
        labelling.make_labels(files, used, 0, 42, teacher, images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cutmix": 0.0, "mixup": 0.8}, "evaluate.mixup 0.8 with 'stored'"),
        ({"sets": ("random",)}, "expected 'distilled' among them"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, options, words):
    config = make_config(tmp_path)
    config.evaluate.labels = ("soft", "stored")
    config.evaluate.update(options)
    with pytest.raises(InputError, match=words):
        protocol.check(config.evaluate)
