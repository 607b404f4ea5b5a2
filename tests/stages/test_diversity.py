"""diversity.json: every measure, the real images they are against, nothing measured twice."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity
from tiny_run import make_config, save_distilled, save_teacher, train_source

from delt_jax.core.realism import coverage, frechet_distance
from delt_jax.data.selection import Selection, write_selection
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import diversity
from delt_jax.stages.opening import describe
from delt_jax.stages.training_sets import TrainingSet, open_sets


@pytest.fixture
def measured(tmp_path):
    """Measures with some config, and how often the network saw a batch."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    teacher = save_teacher(workdir)
    save_distilled(workdir, config)
    write_selection(
        workdir,
        train_source(config),
        Selection(np.array([[0, 3], [4, 1], [2, 8]]), np.full((3, 2), 0.5)),
    )
    spec, calls = describe(config), []

    def counted(network):
        def features_of(images):
            calls.append(len(images))
            return images[:, ::3, ::3].reshape(len(images), -1).astype(np.float32)

        return features_of

    def measure(**options):
        config.evaluate.update(options)
        calls.clear()
        sets = open_sets(config, workdir, spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diversity, "penultimate", counted)
            diversity.measure_diversity(config, workdir, spec, sets, teacher)
        return workdir.read_json(workdir.evaluation / "diversity.json"), len(calls)

    measure.config, measure.workdir, measure.features = config, workdir, counted(teacher)
    return measure


@pytest.mark.four_devices
def test_measures_are_those_of_the_features(measured):
    found, _ = measured(sets=("selected", "random"), seeds=(1, 2), real_images=10)
    assert list(found) == ["selected", "random", "real"]
    source = train_source(measured.config)
    # 12 images of each class, of which 10 are looked at, evenly spaced.
    positions = [12 * place // 10 for place in range(10)]
    indices = np.sort(
        np.concatenate([np.flatnonzero(source.labels == k)[positions] for k in range(3)])
    )
    real = measured.features(np.stack([source[i] for i in indices]))
    real_labels = source.labels[indices]
    chosen = open_sets(measured.config, measured.workdir, describe(measured.config))["selected"](0)
    features = measured.features(chosen.images)

    def pairs(features, labels):
        values = [cosine_similarity(features[labels == k]) for k in range(3)]
        return [value[~np.eye(len(value), dtype=bool)].mean() for value in values]

    selected = found["selected"]
    np.testing.assert_allclose(
        selected["pairwise"]["per_class"], pairs(features, chosen.labels), rtol=1e-5
    )
    assert selected["pairwise"]["mean"] == pytest.approx(np.mean(selected["pairwise"]["per_class"]))
    shares, mean = coverage(features, chosen.labels, real, real_labels, 3)
    assert selected["coverage"] == {"mean": mean, "per_class": shares.tolist()}
    assert selected["frechet_distance"] == pytest.approx(frechet_distance(features, real))
    assert (selected["images"], found["real"]["images"]) == (6, 30)
    np.testing.assert_allclose(
        found["real"]["pairwise"]["per_class"], pairs(real, real_labels), rtol=1e-5
    )
    assert found["real"]["coverage"] is found["real"]["frechet_distance"] is None

    # Of random images, the mean over the draws.
    (one, _), (two, _) = (measured(seeds=(seed,)) for seed in (1, 2))
    for name in ("pairwise", "coverage"):
        expected = (one["random"][name]["mean"] + two["random"][name]["mean"]) / 2
        assert found["random"][name]["mean"] == pytest.approx(expected)
    assert one["random"]["mean"] != two["random"]["mean"]


def test_nothing_is_measured_twice(measured):
    first, calls = measured()
    assert calls == 1 + 1 + 1 + 2  # real, distilled, selected, random by seed
    again, calls = measured()
    assert (again, calls) == (first, 0)
    # Another distilled set: that alone, and what it is compared with.
    save_distilled(measured.workdir, measured.config, seed=8)
    changed, calls = measured()
    assert calls == 1 + 1
    assert {name for name in changed if changed[name] != first[name]} == {"distilled"}
    # Other real images: everything.
    _, calls = measured(real_images=6)
    assert calls == 5
    # Fewer sets: what is left, and nothing else.
    fewer, calls = measured(sets=("random",))
    assert (list(fewer), calls) == (["random", "real"], 0)


def test_without_real_images_the_training_split_is_not_needed(measured):
    spec, teacher = describe(measured.config), save_teacher(measured.workdir)
    images, labels = save_distilled(measured.workdir, measured.config)
    measured.config.data.source = "gone.npz"
    measured.config.evaluate.real_images = 0
    distilled = TrainingSet(images, labels)
    diversity.measure_diversity(
        measured.config, measured.workdir, spec, {"distilled": lambda seed: distilled}, teacher
    )
    found = measured.workdir.read_json(measured.workdir.evaluation / "diversity.json")
    assert list(found) == ["distilled"]
    assert found["distilled"]["coverage"] is found["distilled"]["frechet_distance"] is None
    assert 0 < found["distilled"]["pairwise"]["mean"] < found["distilled"]["mean"] <= 1


def test_one_image_a_class_has_no_pairs(measured):
    images, labels = save_distilled(measured.workdir, measured.config)
    spec, teacher = describe(measured.config), save_teacher(measured.workdir)
    one = TrainingSet(images[::2], labels[::2])
    diversity.measure_diversity(
        measured.config, measured.workdir, spec, {"distilled": lambda seed: one}, teacher
    )
    entry = measured.workdir.read_json(measured.workdir.evaluation / "diversity.json")["distilled"]
    assert entry["pairwise"] == {"mean": None, "per_class": [None] * 3}
    assert entry["mean"] == pytest.approx(1)


def test_unreadable_real_images_are_left_out_and_said(measured, tmp_path, caplog):
    folder = tmp_path / "photos"
    source = train_source(measured.config)
    for index in range(36):
        for split in ("train", "test"):
            path = folder / split / f"c{source.labels[index]}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source[index]).save(path)
    (folder / "train" / "c1" / "4.png").write_bytes(b"no image")
    measured.config.data.source = str(folder)
    found, _ = measured(sets=("distilled",))
    assert found["real"]["images"] == 35
    assert "1 of 36 training images could not be read" in caplog.text
    assert "c1/4.png" in caplog.text
    assert not measured.workdir.unreadable_csv.exists()  # or "random" would be drawn anew
