"""The table of data sets."""

import numpy as np
import pytest

from delt_jax.data.pipeline import measure_statistics
from delt_jax.data.sources import open_source
from delt_jax.data.specs import IMAGENET_MEAN, IMAGENET_STD, SPECS, get_spec, statistics
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
        ("imagenet100", 100, 224, (6, 2)),
        ("imagenet1k", 1000, 224, (6, 2)),
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
        ("teacher", "expected one of imagenet, dataset$"),
        (((0.5,), (0.5,)), "three numbers each"),
        (((0.5, 0.5, 0.5), (0.2, 0.0, 0.2)), "expected > 0"),
    ],
)
def test_wrong_statistics(choice, message):
    with pytest.raises(InputError, match=message):
        statistics(choice, SPECS["cifar10"])
