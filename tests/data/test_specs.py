"""The table of data sets."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from delt_jax.data.pipeline import batches, measure_statistics
from delt_jax.data.sources import open_source
from delt_jax.data.specs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SPECS,
    check_class_order,
    get_spec,
    statistics,
)
from delt_jax.errors import InputError


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_row_is_consistent(spec):
    assert spec.class_names is None or len(spec.class_names) == spec.num_classes
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    assert SPECS[spec.name] is spec


@pytest.mark.parametrize(
    ("name", "num_classes", "image_size", "randaugment"),
    [
        ("digits", 10, 32, (5, 4)),
        ("cifar10", 10, 32, (5, 4)),
        ("cifar100", 100, 32, (5, 4)),
        ("tiny-imagenet", 200, 64, (4, 3)),
        ("imagenette", 10, 224, (6, 2)),
        ("imagewoof", 10, 224, (6, 2)),
        ("imagenet100", 100, 224, (6, 2)),
        ("imagenet1k", 1000, 224, (6, 2)),
        ("imagenet2012", 1000, 224, (6, 2)),
        ("tf_flowers", 5, 224, (6, 2)),
    ],
)
def test_published_facts(name, num_classes, image_size, randaugment):
    spec = get_spec(name)
    assert (spec.num_classes, spec.image_size, spec.randaugment) == (
        num_classes,
        image_size,
        randaugment,
    )


def test_digits_statistics_are_those_of_the_training_images():
    mean, std = measure_statistics(open_source("digits", "", "train"), 32)
    np.testing.assert_allclose(mean, SPECS["digits"].mean, atol=5e-5)
    np.testing.assert_allclose(std, SPECS["digits"].std, atol=5e-5)


def unpack(shared_data, name, folder, *options):
    command = [sys.executable, str(shared_data / "unpack.py"), name, str(folder), *options]
    subprocess.run(command, check=True)
    return folder


def assert_statistics(measured, mean, std, atol):
    np.testing.assert_allclose(measured[0], mean, atol=atol)
    np.testing.assert_allclose(measured[1], std, atol=atol)


def mean_deviation(source, size):
    """Mean over images of each image's own standard deviation, as some published std are."""
    parts = [
        batch.images.reshape(len(batch.images), -1, 3).std(1) / 255
        for batch in batches(source, None, 256, size)
    ]
    return np.concatenate(parts).mean(0)


@pytest.mark.slow
def test_cifar10_statistics_are_those_of_the_training_images(shared_data, tmp_path):
    unpack(shared_data, "cifar10", tmp_path, "--npz")
    source = open_source("cifar10", str(tmp_path / "cifar10.npz"), "train")
    spec = SPECS["cifar10"]
    measured = measure_statistics(source, 32)
    assert_statistics(measured, spec.mean, (0.2470, 0.2435, 0.2616), atol=1e-4)
    np.testing.assert_allclose(mean_deviation(source, 32), spec.std, atol=2e-4)


def test_flowers_statistics_are_those_of_the_training_images(shared_data, tmp_path):
    source = open_source("own", str(unpack(shared_data, "flowers", tmp_path)), "train")
    spec = SPECS["tf_flowers"]
    assert sorted(spec.class_names or ()) == list(source.class_names)
    assert_statistics(measure_statistics(source, 64), spec.mean, spec.std, atol=1e-4)


@pytest.mark.slow
def test_imagenette_is_like_imagenet(shared_data, tmp_path):
    folder = unpack(shared_data, "imagenette", tmp_path)
    source = open_source("imagenette", str(folder), "train")
    assert source.class_names == SPECS["imagenette"].class_names
    measured = measure_statistics(source, 224)
    assert_statistics(measured, (0.4613, 0.4533, 0.4233), (0.2739, 0.2694, 0.2908), atol=1e-4)
    np.testing.assert_allclose(measured[0], IMAGENET_MEAN, atol=0.03)
    np.testing.assert_allclose(mean_deviation(source, 224), IMAGENET_STD, atol=0.01)


def test_ten_classes_of_tiny_imagenet_are_like_all(shared_data, tmp_path):
    source = open_source("own", str(unpack(shared_data, "tinyimagenet", tmp_path)), "train")
    spec = SPECS["tiny-imagenet"]
    assert spec.class_names is not None
    assert spec.class_names[::20] == source.class_names  # every twentieth class
    mean, _ = measure_statistics(source, 64)
    np.testing.assert_allclose(mean, spec.mean, atol=0.01)
    np.testing.assert_allclose(mean_deviation(source, 64), spec.std, atol=0.025)


def test_class_names_are_those_of_tfds():
    folder = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations[0]
    for name, file in (
        ("imagenet1k", "datasets/imagenet2012/labels.txt"),
        ("imagenette", "image_classification/imagenette_labels.txt"),
    ):
        path = pathlib.Path(folder, file)
        if path.exists():
            assert SPECS[name].class_names == tuple(path.read_text().split())


@pytest.mark.parametrize("name", ["imagenette", "imagewoof", "tiny-imagenet", "imagenet1k"])
def test_wordnet_numbers_are_sorted_as_folders_are(name):
    names = SPECS[name].class_names
    assert names == tuple(sorted(set(names)))
    assert set(names) <= set(SPECS["imagenet1k"].class_names)


def test_published_weights_need_the_published_order():
    spec = SPECS["imagenette"]
    check_class_order(spec, spec.class_names, "x")
    check_class_order(spec, [f"{name} of another name" for name in spec.class_names], "x")
    swapped = [*spec.class_names[1::-1], *spec.class_names[2:]]
    with pytest.raises(InputError, match="x: class 0 is 'n02102040'; expected 'n01440764', as in"):
        check_class_order(spec, swapped, "x")


def test_unknown_name_names_the_nearest():
    with pytest.raises(InputError, match=r"'cifar-10' .*nearest: cifar10"):
        get_spec("cifar-10")


def test_statistics_by_word_and_by_value():
    spec = SPECS["cifar10"]
    assert statistics("imagenet", spec) == (IMAGENET_MEAN, IMAGENET_STD)
    assert statistics("dataset", spec) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    pair = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert statistics("teacher", spec, pair) == pair
    assert statistics(pair, spec) == pair


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("cifar", "'cifar': expected one of imagenet, dataset"),
        ("teacher", "expected one of imagenet, dataset, or numbers"),
        (((0.5,), (0.5,)), "three finite numbers each"),
        (((0.5, 0.5, 0.5), (0.2, 0.0, 0.2)), "expected at least 1e-06"),
        ("0.5/1e-46", "expected at least 1e-06"),
    ],
)
def test_wrong_statistics(choice, message):
    with pytest.raises(InputError, match=message):
        statistics(choice, SPECS["cifar10"])
