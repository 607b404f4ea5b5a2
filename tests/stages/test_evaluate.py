"""The evaluate stage: sets, seeds, resumption, what it writes."""

import dataclasses
import functools
import json
import statistics
import types

import jax
import numpy as np
import pytest
from tiny_run import (
    CLASSES,
    MEAN,
    SIZE,
    STD,
    coloured,
    make_config,
    save_distilled,
    save_teacher,
    train_source,
)

from delt_jax.data.selection import Selection, write_selection
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import device_pool, evaluate, student
from delt_jax.stages.cropped_images import CroppedImages, measure_accuracy
from delt_jax.stages.opening import describe
from delt_jax.stages.student import StudentTrainer
from delt_jax.stages.training_sets import open_sets


@pytest.fixture
def prepared(tmp_path):
    """A config and a work directory as the earlier stages leave it."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    save_teacher(workdir)
    save_distilled(workdir, config)
    chosen = np.array([[0, 3], [4, 1], [2, 8]])
    write_selection(workdir, train_source(config), Selection(chosen, np.full((3, 2), 0.5)))
    return config, workdir


def test_evaluates_every_set_and_seed_once(prepared):
    config, workdir = prepared
    result = evaluate.run(config, workdir)
    names = [(run.set, run.student, run.seed) for run in result.runs]
    sets = ("distilled", "selected", "random")
    assert names == [(name, "conv3", seed) for name in sets for seed in (1, 2)]
    assert [(s.set, s.n) for s in result.summaries] == [(name, 2) for name in sets]
    of_distilled = [run.top1 for run in result.runs[:2]]
    assert result.summaries[0].top1_mean == pytest.approx(statistics.mean(of_distilled))
    assert result.summaries[0].top1_std == pytest.approx(statistics.stdev(of_distilled))

    written = workdir.read_json(workdir.evaluation / "distilled-conv3-1.json")
    assert written["top1"] == result.runs[0].top1
    assert [epoch for epoch, _ in written["curve"]] == [1, 3]  # epochs 0 and 2 counted from 0
    assert written["best_top1"] == max(top1 for _, top1 in written["curve"])
    assert len(written["loss"]) == written["epochs"] == 3
    assert len(written["per_class"]) == 3
    assert written["class_names"] == list(CLASSES)
    assert written["images"] == 6
    assert written["protocol"]["batch_size"] == 3
    # The accuracy of all is that of the classes, weighted by the 5, 5 and 4 test images.
    assert np.dot(written["per_class"], [5, 5, 4]) / 14 == pytest.approx(written["top1"])

    diversity = workdir.read_json(workdir.evaluation / "diversity.json")
    assert set(diversity) == {*sets, "real"}
    assert diversity == result.diversity
    assert {path.name for path in workdir.evaluation.iterdir()} == {
        "diversity.json",
        *(f"{name}-conv3-{seed}.json" for name in sets for seed in (1, 2)),
    }

    # Again: nothing is trained, the same comes out. After a change of one set: that alone.
    stamps = {p: p.stat().st_mtime_ns for p in workdir.evaluation.glob("*-conv3-*.json")}
    again = evaluate.run(config, workdir)
    assert again.runs == result.runs
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    save_distilled(workdir, config, seed=8)
    evaluate.run(config, workdir)
    changed = {p.name for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
    assert changed == {"distilled-conv3-1.json", "distilled-conv3-2.json"}
    rows = [row for row in read_metrics(workdir.metrics_jsonl) if row["stage"] == "evaluate"]
    assert len(rows) == (6 + 2) * 2
    assert json.loads((workdir.evaluation / "random-conv3-2.json").read_text())["seed"] == 2


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("pool_bytes", "batch_size"), [pytest.param(0, 4, marks=pytest.mark.slow), (2**30, 3)]
)  # 4: the last is ragged
def test_students_of_several_seeds_at_once_are_those_of_each(
    prepared, monkeypatch, tmp_path, pool_bytes, batch_size
):
    config, workdir = prepared
    config.evaluate.batch_size, config.evaluate.epochs = batch_size, 2
    config.evaluate.average_decay = 0.5
    monkeypatch.setattr(device_pool, "pool_bytes", lambda: pool_bytes)
    teacher = evaluate.load_network(workdir.teacher)
    test, labels = CroppedImages(train_source(config), SIZE), np.arange(6) % 3
    protocol = evaluate.read_protocol(config, "conv3", describe(config), teacher, "hard")
    trainer = StudentTrainer("conv3", teacher, protocol, SIZE)
    shared, own = (student.LabelledImages(coloured(labels, s), labels) for s in (5, 6))
    seen = []
    found = trainer.train_together(
        [shared, own, shared],
        [3, 4, 4],
        test,
        tmp_path / "together",
        lambda epoch, losses, top1: seen.append((epoch, len(losses), len(top1))),
    )
    assert seen == [(0, 3, 3), (1, 3, 3)]
    for place, (images, seed) in enumerate([(shared, 3), (own, 4), (shared, 4)]):
        alone = trainer.train(images.images, seed, test, tmp_path / f"{place}", labels=labels)
        np.testing.assert_allclose(found[place].curve.loss, alone.curve.loss, rtol=1e-3)
        assert found[place].curve.loss.shape == found[place].curve.seconds.shape == (2,)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5e-3),
            found[place].variables,
            alone.variables,
        )
    assert found[1].curve.loss[0] != found[2].curve.loss[0]

    # Killed after the first epoch, they go on from there together.
    resumed_from = []

    def die(epoch, losses, top1):
        if epoch == 1:
            raise KilledError

    arguments = ([shared, own, shared], [3, 4, 4], test, tmp_path / "broken")
    with pytest.raises(KilledError):
        trainer.train_together(*arguments, die, save_minutes=0)
    again = trainer.train_together(*arguments, lambda epoch, *_: resumed_from.append(epoch))
    assert resumed_from == [1]
    for one, other in zip(again, found, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
        np.testing.assert_array_equal(one.curve.loss, other.curve.loss)


def test_seeds_train_together_where_asked(prepared, monkeypatch):
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds = ("random",), (1, 2, 3)
    config.evaluate.seeds_at_once, config.evaluate.epochs = 2, 1
    groups = []
    train = StudentTrainer.train_together

    def spy(self, sets, seeds, *arguments):
        groups.append(list(seeds))
        return train(self, sets, seeds, *arguments)

    monkeypatch.setattr(StudentTrainer, "train_together", spy)
    together = evaluate.run(config, workdir)
    assert groups == [[1, 2], [3]]
    (workdir.evaluation / "random-conv3-2.json").unlink()
    config.evaluate.seeds_at_once = 0
    again = evaluate.run(config, workdir)
    assert groups[2:] == [[2]]  # a CPU's one; the others are there
    assert [run.seed for run in again.runs] == [1, 2, 3]
    assert [run.top1 for run in again.runs] == [run.top1 for run in together.runs]
    rows = [row for row in read_metrics(workdir.metrics_jsonl) if row["stage"] == "evaluate"]
    assert [row["seed"] for row in rows] == [1, 2, 3, 2]
    assert rows[1]["loss"] == pytest.approx(rows[3]["loss"], rel=1e-3)
    assert {path.suffix for path in workdir.evaluation.iterdir()} == {".json"}


def test_a_student_goes_on_where_it_was_interrupted(prepared, tmp_path):
    config, workdir = prepared
    config.evaluate.batch_size = 4  # of six images: the last batch is ragged
    config.evaluate.randaugment_ops = 1
    spec = describe(config)
    teacher = evaluate.load_network(workdir.teacher)
    protocol = evaluate.read_protocol(config, "conv3", spec, teacher)
    trainer = StudentTrainer("conv3", teacher, protocol, SIZE)
    test = CroppedImages(train_source(config), SIZE)
    images = coloured(np.arange(6) % 3, 5)
    whole = trainer.train(images, 3, test, tmp_path / "whole")

    epochs = []

    def die(epoch, loss, top1):
        if epoch == 1 and len(epochs) == 1:
            raise KilledError
        epochs.append(epoch)

    with pytest.raises(KilledError):
        trainer.train(images, 3, test, tmp_path / "broken", die, save_minutes=0)
    resumed = trainer.train(
        images, 3, test, tmp_path / "broken", lambda epoch, loss, top1: epochs.append(epoch)
    )
    assert epochs == [0, 1, 2]  # the first epoch was not done again
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, whole.variables)
    np.testing.assert_array_equal(resumed.curve.loss, whole.curve.loss)
    np.testing.assert_array_equal(resumed.curve.top1, whole.curve.top1)
    np.testing.assert_array_equal(resumed.per_class, whole.per_class)
    assert (np.diff(resumed.curve.seconds) > 0).all()

    other = trainer.train(images, 4, test, tmp_path / "other")
    assert (other.curve.loss != whole.curve.loss).any()


def test_checkpoints_of_a_student_that_is_done_do_not_stay(prepared):
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds = ("distilled",), (1,)
    evaluate.run(config, workdir)
    left = (
        workdir.evaluation / ".distilled-conv3-1.0123456789ab"
    )  # as by a kill before the last step
    (left / "1").mkdir(parents=True)
    evaluate.run(config, workdir)
    assert (workdir.evaluation / "distilled-conv3-1.json").exists()
    assert not left.exists()


def test_hard_labels_lie_beside_soft_ones(prepared):
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds, config.evaluate.epochs = ("distilled",), (1,), 2
    evaluate.run(config, workdir)
    soft = workdir.evaluation / "distilled-conv3-1.json"
    stamp = soft.stat().st_mtime_ns
    config.evaluate.labels = ("soft", "hard")
    result = evaluate.run(config, workdir)
    assert soft.stat().st_mtime_ns == stamp  # the other kind is no reason to train it again
    hard = workdir.read_json(workdir.evaluation / "distilled-conv3-1-hard.json")
    assert (hard["labels"], hard["protocol"]["labels"]) == ("hard", "hard")
    assert workdir.read_json(soft)["labels"] == "soft"
    assert hard["loss"] != workdir.read_json(soft)["loss"]
    assert [(run.labels, run.top1) for run in result.runs] == [
        ("soft", workdir.read_json(soft)["top1"]),
        ("hard", hard["top1"]),
    ]
    assert [(summary.labels, summary.n) for summary in result.summaries] == [
        ("soft", 1),
        ("hard", 1),
    ]


def test_options_train_a_student_as_by_hand(prepared, tmp_path):
    config, workdir = prepared
    config.evaluate.update(
        {"labels": ("hard",), "optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1}
        | {"augment": False, "average_decay": 0.9, "learning_rate": 0.05, "cosine_stretch": 1.0}
        | {"epochs": 2, "batch_size": 6, "double_bn_update": False}
    )
    teacher = evaluate.load_network(workdir.teacher)
    protocol = evaluate.read_protocol(config, "conv3", describe(config), teacher, "hard")
    trainer = StudentTrainer("conv3", teacher, protocol, SIZE)
    test, labels = CroppedImages(train_source(config), SIZE), np.array([0, 2, 1, 1, 0, 2])
    images = coloured(labels, 5)
    trained = trainer.train(images, 3, test, tmp_path / "student", labels=labels)

    module = teacher.module
    variables = registry.initialise(module, SIZE, stream(3, "student", "init"))
    inputs = ((images / 255 - MEAN) / STD).astype(np.float32)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss_of(params, statistics):
        tree = {"params": params, **statistics}
        logits, new = module.apply(tree, inputs, train=True, mutable=["batch_stats"])
        one_hot = jax.nn.one_hot(labels, 3)
        return -(one_hot * jax.nn.log_softmax(logits)).sum() / 6, new

    params, statistics = variables["params"], {"batch_stats": variables.get("batch_stats", {})}
    velocity = jax.tree.map(np.zeros_like, params)
    average = {"params": params, **statistics}
    losses = []
    # The whole set is one batch. Half a cosine: .05, then .025. Weights of the newest in the
    # average: 1 - 1 / 10, then 1 - 2 / 11, both more than 1 - .9.
    for rate, weight in ((0.05, 0.9), (0.025, 9 / 11)):
        (loss, statistics), gradient = loss_of(params, statistics)
        decayed = jax.tree.map(lambda g, p: g + 0.1 * p * (p.ndim > 1), gradient, params)
        velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, decayed)
        params = jax.tree.map(lambda p, v, rate=rate: p - rate * v, params, velocity)
        average = jax.tree.map(
            lambda old, new, weight=weight: (1 - weight) * old + weight * new,
            average,
            {"params": params, **statistics},
        )
        losses.append(float(loss))
    np.testing.assert_allclose(trained.curve.loss, losses, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        trained.variables,
        {name: average[name] for name in trained.variables},
    )


def test_mixup_and_hard_labels_train(prepared, tmp_path):
    config, workdir = prepared
    config.evaluate.cutmix, config.evaluate.mixup, config.evaluate.epochs = 0.0, 0.8, 1
    teacher = evaluate.load_network(workdir.teacher)
    test, labels = CroppedImages(train_source(config), SIZE), np.arange(6) % 3
    losses = {}
    for kind in ("soft", "hard"):
        protocol = evaluate.read_protocol(config, "conv3", describe(config), teacher, kind)
        trainer = StudentTrainer("conv3", teacher, protocol, SIZE)
        trained = trainer.train(coloured(labels, 5), 3, test, tmp_path / kind, labels=labels)
        losses[kind] = float(trained.curve.loss[0])
    # About log 3 of an untrained student against classes, next to nothing at temperature 20.
    assert losses["soft"] < 0.1 < 0.7 < losses["hard"] < 2


def test_a_diverging_student_is_named(prepared):
    config, workdir = prepared
    config.evaluate.learning_rate = 1e38
    config.evaluate.sets = ("distilled",)
    with pytest.raises(InputError, match=r"student conv3, seed 1: the loss became .* in epoch"):
        evaluate.run(config, workdir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluate.sets": ("destilled",)}, "one of distilled.*destilled"),
        ({"evaluate.students": ("conv33",)}, "conv3.*conv33"),
        ({"evaluate.students": ()}, r"students: got \(\), expected a tuple of at least one"),
        ({"evaluate.seeds": ()}, r"seeds: got \(\), expected a tuple of at least one"),
        ({"evaluate.statistics": "mnist"}, "mnist"),
        ({"ipc": 3}, "2 to 2 images per class; expected ipc = 3"),
    ],
)
def test_refuses_before_it_trains(prepared, change, message):
    config, workdir = prepared
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        evaluate.run(config, workdir)
    assert not workdir.evaluation.exists()


def test_real_images_suffer_what_distilled_ones_do(prepared):
    config, workdir = prepared
    spec = describe(config)
    config.distilled.format = "png"
    plain = open_sets(config, workdir, spec)
    config.distilled.format, config.distilled.quality = "jpg", 50
    lossy = open_sets(config, workdir, spec)
    source = train_source(config)
    expected = np.stack([source[index] for index in (0, 3, 4, 1, 2, 8)])
    np.testing.assert_array_equal(plain["selected"](1).images, expected)
    np.testing.assert_array_equal(plain["selected"](1).labels, [0, 0, 1, 1, 2, 2])
    distance = np.abs(lossy["selected"](1).images.astype(int) - expected).mean()
    assert 0 < distance < 60
    # Random images are drawn for each seed, the others are the same for all.
    assert (plain["random"](1).images != plain["random"](2).images).any()
    np.testing.assert_array_equal(plain["random"](1).images, plain["random"](1).images)
    np.testing.assert_array_equal(plain["random"](1).labels, [0, 0, 1, 1, 2, 2])


def test_accuracy_counts_every_image_once_whatever_the_batch(tmp_path):
    source = train_source(make_config(tmp_path))
    held, streamed = CroppedImages(source, SIZE), CroppedImages(source, SIZE, hold_bytes=0)

    def brightest(images):
        means = np.asarray(images, np.float32).mean((1, 2))
        means[:, 2] += 30  # so that some are wrong
        return means

    expected = brightest(np.stack([source[i] for i in range(len(source))])).argmax(1)
    correct = expected == source.labels
    for images in (held, streamed):
        for batch_size in (5, 36, 100):
            counted = []
            found = measure_accuracy(brightest, images, batch_size, counted.append)
            assert found.top1 == pytest.approx(100 * correct.mean())
            assert sum(counted) == 36
            per_class = [100 * correct[source.labels == k].mean() for k in range(3)]
            np.testing.assert_allclose(found.per_class, per_class)
    order = np.array([3, 1, 2])
    for one, other in zip(held.batches(order, 2), streamed.batches(order, 2), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_summaries_of_one_seed_have_no_deviation():
    run = evaluate.StudentRun("distilled", "conv3", 1, 50.0, 60.0, 2, 1.0)
    (alone,) = evaluate.summarise([run])
    assert (alone.top1_mean, alone.top1_std, alone.best_mean, alone.best_std) == (
        50,
        None,
        60,
        None,
    )
    (both,) = evaluate.summarise([run, dataclasses.replace(run, seed=2, top1=52.0)])
    assert both.top1_std == pytest.approx(2**0.5)


FOUR_DEVICES = pytest.param("four devices", marks=pytest.mark.four_devices)


@pytest.mark.parametrize(
    "arrangement", [FOUR_DEVICES, "no pool", pytest.param("loop", marks=pytest.mark.slow)]
)
def test_a_student_is_the_same_however_it_is_arranged(prepared, monkeypatch, tmp_path, arrangement):
    config, workdir = prepared
    config.evaluate.batch_size, config.evaluate.epochs = 4, 2  # of ten images: the last is ragged
    spec, teacher = describe(config), evaluate.load_network(workdir.teacher)
    config.ipc = 4
    protocol = evaluate.read_protocol(config, "conv3", spec, teacher)
    test, images = CroppedImages(train_source(config), SIZE), coloured(np.arange(10) % 3, 5)

    def train(name):
        trainer = StudentTrainer("conv3", teacher, protocol, SIZE)
        return trainer.train(images, 3, test, tmp_path / name)

    usual = train("usual")
    if arrangement == "four devices":
        monkeypatch.setattr(student, "device_mesh", lambda axis: None)
    elif arrangement == "no pool":
        monkeypatch.setattr(device_pool, "pool_bytes", lambda: 0)
    else:
        monkeypatch.setattr(student.programs, "steps_per_call", lambda: 3)
    other = train("other")
    np.testing.assert_allclose(other.curve.loss, usual.curve.loss, rtol=1e-3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-3),
        other.variables["batch_stats"],
        usual.variables["batch_stats"],
    )


def test_diversity_that_another_host_measured_is_waited_for(tmp_path, monkeypatch):
    workdir = WorkDir(tmp_path)
    path = workdir.evaluation / "diversity.json"
    workdir.write_json(path, {"random": {"fingerprint": "old", "mean": 0.1}})
    measured = {"random": {"fingerprint": "new", "mean": 0.2}}
    second = types.SimpleNamespace(agree=lambda name, value: {"random": "new"})
    monkeypatch.setattr(evaluate.hosts, "current", lambda: second)
    monkeypatch.setattr(
        evaluate.hosts.time, "sleep", lambda _: path.write_text(json.dumps(measured))
    )
    assert evaluate._read_diversity(workdir) == measured
