"""Distilling by the API: what goes in, what comes out, what is refused."""

import numpy as np
import pytest
import tiny_run

import delt_jax
from delt_jax.api import students
from delt_jax.errors import InputError
from delt_jax.models.network import save_network
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import squeeze
from delt_jax.stages.cropped_images import CroppedImages

SHORT = {"iterations": 4, "round_iterations": 2, "format": "png", "rounding": "nearest"}


@pytest.fixture(scope="module")
def train():
    labels = np.arange(24) % 3
    return delt_jax.Images(tiny_run.coloured(labels, 0), labels, tiny_run.CLASSES)


@pytest.fixture(scope="module")
def held_out():
    labels = np.arange(9) % 3
    return delt_jax.Images(tiny_run.coloured(labels, 1), labels, tiny_run.CLASSES)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_run.save_teacher(WorkDir(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def distilled(train, teacher):
    return delt_jax.synthesize(teacher, train, ipc=2, log_every=1, **SHORT)


def test_what_comes_out_are_arrays(distilled, train):
    assert distilled.images.shape == (6, 8, 8, 3) and distilled.images.dtype == np.uint8
    assert distilled.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert distilled.join_rounds.tolist() == [0, 1, 0, 1, 0, 1]
    assert distilled.iterations.tolist() == [4, 2, 4, 2, 4, 2]
    assert distilled.class_names == tiny_run.CLASSES
    names = train.source.names
    began = train.images[[names.index(source) for source in distilled.sources]]
    np.testing.assert_array_equal(distilled.initial, began)
    change = np.abs(distilled.images.astype(int) - distilled.initial).mean((1, 2, 3))
    assert (change > 0).all()


def test_losses_are_logged(distilled):
    assert [row["iteration"] for row in distilled.log] == [1, 2, 3, 4]
    assert [row["active"] for row in distilled.log] == [3, 3, 6, 6]
    assert all(np.isfinite(row["loss"]) for row in distilled.log)


def test_no_iterations_leave_the_photos(train, teacher):
    kept = delt_jax.synthesize(
        teacher, train, ipc=2, iterations=0, early_late=False, format="png", ranking=np.arange(24.0)
    )
    np.testing.assert_array_equal(kept.images, kept.initial)
    # The middle of the ranking: rank 4 of each class's eight, then 5.
    assert kept.sources[:2] == (train.source.names[12], train.source.names[15])


def test_noise_has_no_photos(train, teacher):
    made = delt_jax.synthesize(teacher, train, ipc=1, initial="noise", early_late=False, **SHORT)
    assert made.initial is None and set(made.sources) == {""}
    with pytest.raises(InputError, match="initial images: there are none of noise"):
        made.show(beside_initial=True)


def test_pictures_and_files(distilled, tmp_path):
    assert distilled.show().size == (6 * (2 * 10 + 2), 6 * (3 * 10 + 2))
    assert distilled.show(beside_initial=True).size == (6 * (2 * 10 + 2), 6 * (6 * 10 + 2))
    folders = distilled.save(tmp_path / "out")
    again = delt_jax.load_distilled(folders["image_folder"])
    np.testing.assert_array_equal(again.images, distilled.images)
    np.testing.assert_array_equal(again.join_rounds, distilled.join_rounds)
    assert again.initial is None and again.log == ()
    assert repr(again) == "Distilled(6 images of 8 x 8, 3 classes, joined in 2 rounds)"


def test_the_files_live_as_long_as_the_set(train, teacher):
    made = delt_jax.synthesize(teacher, train, ipc=1, iterations=0, early_late=False)
    folder = made.folder
    assert (folder / "manifest.json").is_file()
    del made
    assert not folder.parent.exists()


def test_progress_is_told_and_can_be_ended(train, teacher, capsys):
    seen = []
    delt_jax.rank(teacher, train, on_progress=seen.append)
    assert (seen[-1].what, seen[-1].done, seen[-1].total, seen[-1].unit) == (
        *("ranking", 24, 24),
        "images",
    )
    seen.clear()
    delt_jax.synthesize(teacher, train, ipc=2, log_every=1, on_progress=seen.append, **SHORT)
    steps = [at for at in seen if at.what == "synthesize"]
    assert [at.done for at in steps if at.values] == [3, 6, 12, 18]
    assert all(at.total == 18 and np.isfinite(at.values["loss"]) for at in steps if at.values)
    assert capsys.readouterr().err == ""

    def stop(at):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        delt_jax.synthesize(teacher, train, ipc=2, on_progress=stop, **SHORT)


def test_students_learn_from_any_images(distilled, train, held_out, teacher):
    found = delt_jax.evaluate(
        {"distilled": distilled, "a/b": (train.images[:6], train.labels[:6])},
        held_out,
        teacher,
        labels=("soft", "hard"),
        epochs=1,
        seeds=[7],
        randaugment_ops=0,
    )
    assert [(one.set, one.labels, one.seed) for one in found.students] == [
        ("distilled", "soft", 7),
        ("a/b", "soft", 7),
        ("distilled", "hard", 7),
        ("a/b", "hard", 7),
    ]
    assert found.records[0]["protocol"]["batch_size"] == 6  # never more than there are
    assert str(found).count("\n") == 5
    assert found._repr_markdown_() == str(found)
    with pytest.raises(InputError, match="top1: 4 results; expected one"):
        found.top1  # noqa: B018


HARD = {"labels": "hard", "epochs": 1, "seeds": [7], "randaugment_ops": 0}


@pytest.fixture
def learned(monkeypatch):
    """The labels of each set that students would learn; none is trained."""
    sets = {}

    def run(self, jobs):
        sets.update({key: chosen(0).labels.tolist() for key, chosen in self.sets.items()})
        return []

    monkeypatch.setattr(students.StudentJobs, "run", run)
    return sets


def test_labels_of_a_set_are_those_of_the_test_images_by_name(train, held_out, teacher, learned):
    images, labels = train.images[:3], np.array([0, 1, 2])
    sets = {
        "other order": delt_jax.Images(images, labels, ["blue", "red", "green"]),
        "a part": delt_jax.Images(images[:2], labels[:2], ["blue", "red"]),
        "no names": delt_jax.Images(images, labels),
        "arrays": (images, labels),
    }
    assert held_out.class_names == ("red", "green", "blue")
    delt_jax.evaluate(sets, held_out, teacher, **HARD)
    assert list(learned.values()) == [[2, 0, 1], [2, 0], [0, 1, 2], [0, 1, 2]]
    others = delt_jax.Images(images, labels, ["red", "green", "mauve"])
    with pytest.raises(
        InputError, match="set 'images': class 2 is 'mauve', which is none of the 3"
    ):
        delt_jax.evaluate(others, held_out, teacher, **HARD)


def test_test_images_in_another_order_than_the_teacher_s_are_refused(train, held_out, teacher):
    test = delt_jax.Images(held_out.images, held_out.labels, ["green", "red", "blue"])
    with pytest.raises(
        InputError, match="class 0 is 'red' for the teacher and 'green' for the tes"
    ):
        delt_jax.evaluate(train, test, teacher, **HARD)
    with pytest.raises(
        InputError, match="class 0 is 'red' for the teacher and 'green' for the tes"
    ):
        squeeze.measure_teacher(teacher, CroppedImages(test.source, test.image_size))


def test_teachers_are_opened(teacher, train, held_out, tmp_path):
    workdir = WorkDir(tmp_path / "run")
    save_network(teacher, workdir.teacher)
    for path in (workdir.path, workdir.teacher, workdir.teacher / "weights.safetensors"):
        opened = delt_jax.load_teacher(path, train, arch="conv3", statistics="0.5/0.25")
        np.testing.assert_allclose(
            delt_jax.features(opened, train.images), delt_jax.features(teacher, train.images)
        )
    tested = delt_jax.load_teacher(workdir.path, test=held_out)
    assert 0 <= tested.top1 <= 100
    with pytest.raises(InputError, match=r"no folder with a card\.json"):
        delt_jax.load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ipc": 9}, "class 'red' has 8 images; expected at least ipc = 9"),
        ({"ipc": 0}, "ipc: got 0, expected a whole number from 1"),
        ({"ipc": 2, "round_iterations": 3}, "round_iterations: got 3, which does not divide"),
        ({"ipc": 2, "ranking": np.zeros(5)}, r"ranking of shape \(5,\); expected a score of each"),
        ({"ipc": 2, "learning_rates": 1}, "option 'learning_rates', expected learning_rate"),
    ],
)
def test_a_wrong_synthesis_is_refused(wrong, message, train, teacher):
    with pytest.raises(InputError, match=message):
        delt_jax.synthesize(teacher, train, **({"iterations": 4, "round_iterations": 2} | wrong))


def test_what_does_not_fit_is_refused(distilled, train, held_out, teacher):
    others = delt_jax.Images(train.images, train.labels, ["red", "blue", "green"])
    with pytest.raises(InputError, match="class 1 is 'green' for the teacher and 'blue' in the d"):
        delt_jax.rank(teacher, others)
    with pytest.raises(InputError, match="test images of 3 classes"):
        delt_jax.train_teacher(train, others, arch="conv3")
    large = delt_jax.Images(train.images, train.labels, tiny_run.CLASSES, image_size=16)
    with pytest.raises(InputError, match="images of 16 x 16 pixels; expected the 8 of the teacher"):
        delt_jax.synthesize(teacher, large, ipc=1)
    for given, message in (
        ({"labels": "stored"}, "labels 'stored'; expected some of soft, hard"),
        ({"students": "conv9"}, "conv9"),
        ({"seeds": ()}, r"evaluate\.seeds: got \(\), expected a tuple of at least one"),
        ({"sets": "images"}, "set 'images': str; expected Distilled"),
        ({"sets": large}, r"images of shape \(16, 16, 3\); expected \(8, 8, 3\)"),
        ({"sets": (train.images, np.full(24, 3))}, "labels"),
    ):
        with pytest.raises(InputError, match=message):
            delt_jax.evaluate(**({"sets": distilled, "test": held_out, "teacher": teacher} | given))
    with pytest.raises(InputError, match="BatchNorm"):
        delt_jax.train_teacher(train, arch="deit_tiny")
