"""The continual stage: order of the classes, growth, what is kept, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import CLASSES, coloured, make_config, save_distilled, save_teacher, train_source

from delt_jax.data.selection import Selection, write_selection
from delt_jax.errors import InputError
from delt_jax.runtime import hosts
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import continual, evaluate, student_jobs
from delt_jax.stages.cropped_images import CroppedImages, Scope
from delt_jax.stages.student import Curve, StudentTrainer, Trained


@pytest.fixture
def prepared(tmp_path):
    """A config of three steps of one class, and a work directory as earlier stages leave it."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    config.continual.steps = 3
    save_teacher(workdir)
    save_distilled(workdir, config)
    return config, workdir


class FakeTrainer:
    """Takes note of what a student would be trained and tested on."""

    def __init__(self, student, teacher, protocol, image_size):
        self.student, self.protocol, self.module = student, protocol, None

    def train_together(self, sets, seeds, test, checkpoints, on_epoch, scope, stored, minutes):
        labels = test.labels[scope.positions(test.labels)]
        self.seen += [(one.images, seed, labels, scope) for one, seed in zip(sets, seeds)]
        self.together.append([id(one.images) for one in sets])
        for epoch in range(self.protocol.epochs):
            tested = epoch == self.protocol.epochs - 1
            on_epoch(epoch, [1.0] * len(seeds), [50.0 + s if tested else np.nan for s in seeds])
        top1 = [np.array([np.nan, np.nan, 50.0 + seed]) for seed in seeds]
        per_class = np.array([50.0, np.nan, 1.0])
        return [Trained({}, Curve(np.ones(3), one, np.arange(3.0)), per_class) for one in top1]


@pytest.fixture
def seen(monkeypatch):
    """(images, seed, test labels, scope) of each student; none is trained."""
    FakeTrainer.seen, FakeTrainer.together = [], []
    monkeypatch.setattr(student_jobs, "StudentTrainer", FakeTrainer)
    return FakeTrainer.seen


def test_the_order_is_that_of_numpys_seeded_permutation():
    # np.random.seed(0); np.random.permutation(10): 2 8 4 9 1 6 7 3 0 5
    steps = continual.class_steps(10, 5, 0)
    assert [step.tolist() for step in steps] == [
        [2, 8],
        [2, 4, 8, 9],
        [1, 2, 4, 6, 8, 9],
        [1, 2, 3, 4, 6, 7, 8, 9],
        list(range(10)),
    ]
    assert (continual.class_steps(10, 5, 1)[0] != steps[0]).any()
    assert [step.tolist() for step in continual.class_steps(4, 1, 0)] == [[0, 1, 2, 3]]


def test_students_learn_and_are_tested_on_the_classes_seen(prepared, seen):
    config, workdir = prepared
    write_selection(
        workdir,
        train_source(config),
        Selection(np.array([[0, 3], [4, 1], [2, 8]]), np.full((3, 2), 0.5)),
    )
    result = continual.run(config, workdir)
    jobs = [(run.set, run.seed, run.step, run.classes) for run in result.runs]
    sets = ("distilled", "selected", "random")
    assert jobs == [
        (name, seed, step, step) for name in sets for seed in (1, 2) for step in (1, 2, 3)
    ]
    assert {run.top1 for run in result.runs} == {51.0, 52.0}
    distilled = coloured(np.repeat(np.arange(3), 2), 7)
    # RandomState(0).permutation(3): 2 1 0.
    steps = [(seed, classes) for classes in ([2], [1, 2], [0, 1, 2]) for seed in (1, 2)]
    for (images, seed, labels, scope), (expected, classes) in zip(seen[:6], steps, strict=True):
        slots = [2 * k + rank for k in classes for rank in range(2)]
        np.testing.assert_array_equal(images, distilled[slots])
        assert seed == expected
        assert scope == Scope(tuple(classes), "all")
        assert np.bincount(labels, minlength=3).tolist() == [
            count if k in classes else 0 for k, count in enumerate((5, 5, 4))
        ]
    written = workdir.read_json(workdir.continual / "distilled-conv3-1-step2.json")
    assert written["seen"] == [1, 2]
    assert (written["step"], written["classes"], written["images"]) == (2, 2, 4)
    assert written["per_class"] == [50.0, None, 1.0]
    assert written["class_names"] == list(CLASSES)
    assert written["protocol"]["eval_every"] == 0
    rows = read_metrics(workdir.metrics_jsonl)
    assert len(rows) == 18  # one a student, after its last epoch
    told = ("stage", "set", "student", "seed", "step", "classes", "epoch", "top1")
    assert [rows[1][name] for name in told] == ["continual", *jobs[3][:1], "conv3", 2, 1, 1, 3, 52]


def test_what_has_a_result_is_kept(prepared, seen):
    config, workdir = prepared
    config.evaluate.sets = ("distilled",)
    first = continual.run(config, workdir)
    assert len(seen) == 6
    (workdir.continual / "distilled-conv3-2-step2.json").unlink()
    assert continual.run(config, workdir) == first
    assert [(len(images), seed) for images, seed, *_ in seen[6:]] == [(4, 2)]
    config.evaluate.seeds = (1, 2, 3)
    continual.run(config, workdir)
    assert [seed for _, seed, *_ in seen[7:]] == [3, 3, 3]
    config.continual.order_seed = 1  # another order, so other classes until the last step
    continual.run(config, workdir)
    assert len(seen) == 10 + 3 * 2
    config.continual.argmax = "seen"
    continual.run(config, workdir)
    assert {scope.argmax for *_, scope in seen[:16]} == {"all"}
    assert [scope.argmax for *_, scope in seen[16:]] == ["seen"] * 9


def test_seeds_of_a_step_train_together_and_share_its_images(prepared, seen):
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds = ("distilled",), (1, 2, 3)
    config.evaluate.seeds_at_once = 2
    runs = continual.run(config, workdir).runs
    assert [(run.seed, run.step) for run in runs] == [(s, t) for s in (1, 2, 3) for t in (1, 2, 3)]
    assert [(seed, len(labels)) for _, seed, labels, _ in seen] == [
        (seed, count) for count in (4, 9, 14) for seed in (1, 2, 3)
    ]
    assert [len(images) for images in FakeTrainer.together] == [2, 1] * 3
    assert all(len(set(images)) == 1 for images in FakeTrainer.together)


def test_hosts_share_the_steps(prepared, seen, monkeypatch):
    """Each has late steps and early ones, and waits for the others once, at the end."""
    config, workdir = prepared
    config.evaluate.sets = ("distilled",)
    continual.run(config, workdir)
    seen.clear()
    for path in workdir.continual.iterdir():
        record = workdir.read_json(path)
        workdir.write_json(path, {**record, "fingerprint": "another"})
    waits = []
    crew = hosts.Hosts()
    crew.index, crew.count = 1, 2

    def gather(name, own):
        waits.append(name)
        others = {path.stem: "another" for path in workdir.continual.glob("*.json")}
        return [others, dict(own)]

    monkeypatch.setattr(crew, "gather", gather)
    monkeypatch.setattr(crew, "agree", lambda name, value: value)
    monkeypatch.setattr(hosts, "_current", crew)
    continual.run(config, workdir)
    assert [(seed, len(images)) for images, seed, *_ in seen] == [(2, 2), (2, 4), (2, 6)]
    assert waits == ["continual students"]


def test_a_student_of_the_last_step_is_evaluates(prepared):
    """Trained and tested for good: all classes seen, so nothing differs but when it is tested."""
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds = ("distilled",), (1,)
    config.continual.steps = 1
    config.evaluate.real_images = 0
    (ours,) = continual.run(config, workdir).runs
    (theirs,) = evaluate.run(config, workdir).runs
    assert ours.top1 == theirs.top1
    assert [path.name for path in workdir.continual.iterdir()] == ["distilled-conv3-1-step1.json"]


def test_argmax_decides_what_a_test_image_may_be_taken_for(prepared, monkeypatch):
    config, workdir = prepared
    config.evaluate.sets, config.evaluate.seeds = ("distilled",), (1, 2, 3)
    monkeypatch.setattr(StudentTrainer, "_train_epoch", lambda self, *arguments: np.ones(1))
    of_one_class = {}
    for argmax in ("all", "seen"):
        config.continual.argmax = argmax
        runs = continual.run(config, workdir).runs
        of_one_class[argmax] = [run.top1 for run in runs if run.classes == 1]
        written = workdir.read_json(workdir.continual / "distilled-conv3-1-step2.json")
        assert [k for k, top1 in enumerate(written["per_class"]) if top1 is not None] == [1, 2]
    assert of_one_class["seen"] == [100, 100, 100]
    assert min(of_one_class["all"]) < 50  # untrained


def test_progress_counts_every_epoch_of_every_step_on_one_bar(prepared, seen, monkeypatch):
    config, workdir = prepared
    config.evaluate.sets = ("distilled",)
    bars = []

    class Bar(Progress):
        def __init__(self, total, description, unit):
            super().__init__(total, description, unit)
            bars.append(self)

    monkeypatch.setattr(student_jobs, "Progress", Bar)
    continual.run(config, workdir)
    (workdir.continual / "distilled-conv3-2-step2.json").unlink()
    continual.run(config, workdir)
    told = [(bar._description, bar._total, bar._done) for bar in bars]
    assert told == [("continual", 18, 18)] * 2  # 2 seeds, 3 steps, 3 epochs; kept ones count


def test_among_the_classes_seen_others_are_no_answer(tmp_path):
    source = train_source(make_config(tmp_path))
    trainer = object.__new__(StudentTrainer)
    trainer._statistics = None
    trainer._logits = lambda variables, images, statistics: jnp.tile(
        jnp.array([3.0, 1.0, 2.0]), (len(images), 1)
    )
    for hold_bytes in (0, 1 << 20):
        test = CroppedImages(source, 8, hold_bytes)
        found = trainer.test({}, test, Scope((1, 2), "seen"))
        assert found.top1 == 50  # class 0 would be the answer to all; of the others, 2 is
        np.testing.assert_array_equal(found.per_class, [np.nan, 0, 100])
        found = trainer.test({}, test, Scope((1, 2), "all"))
        assert found.top1 == 0
        np.testing.assert_array_equal(found.per_class, [np.nan, 0, 0])
        assert trainer.test({}, test).top1 == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"continual.steps": 0},
            r"continual\.steps: got 0, expected a number from 1 on that divides",
        ),
        ({"continual.steps": 2}, r"continual\.steps: got 2, .* divides the 3 classes"),
        ({"continual.argmax": "known"}, "'known', expected one of all, seen"),
        (
            {"continual.order_seed": -1},
            r"order_seed: got -1, expected a whole number from 0 to 4,294,967,295",
        ),
        ({"evaluate.sets": ("destilled",)}, "one of distilled.*destilled"),
        ({"evaluate.seeds": ()}, r"evaluate\.seeds: got \(\), expected a tuple of at least one"),
    ],
)
def test_refuses_before_it_trains(prepared, change, message):
    config, workdir = prepared
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        continual.run(config, workdir)
    assert not workdir.continual.exists()
