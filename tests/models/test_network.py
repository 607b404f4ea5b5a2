"""A network's folder: written whole, read back equal, checked against its card."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models.network import CARD, WEIGHTS, Network, load_network, save_network
from delt_jax.models.registry import create


@pytest.fixture(scope="module")
def network():
    images = jnp.zeros((1, 8, 8, 3))
    return Network(
        arch="conv3_w32",
        num_classes=2,
        image_size=8,
        variables=create("conv3_w32", 2, 8).init(jax.random.key(0), images),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.201),
        class_names=("cat", "dog"),
        top1=97.25,
        recipe={"epochs": 3, "seconds": 1.5},
    )


@pytest.fixture
def folder(network, tmp_path):
    save_network(network, tmp_path / "teacher")
    return tmp_path / "teacher"


def edit_card(folder, **changes):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **changes}))


def test_comes_back_equal(network, folder):
    loaded = load_network(folder)
    for field in dataclasses.fields(Network):
        if field.name != "variables":
            assert getattr(loaded, field.name) == getattr(network, field.name)
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.variables, network.variables))
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    np.testing.assert_array_equal(loaded.apply(images), network.apply(images))
    assert loaded.module == network.module
    assert sorted(path.name for path in folder.iterdir()) == [CARD, WEIGHTS]


def test_saving_again_replaces(network, folder):
    save_network(dataclasses.replace(network, top1=None, class_names=()), folder)
    assert load_network(folder).top1 is None
    assert load_network(folder).class_names == ()


def refuse(folder, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_network(folder)
    assert "\n" not in str(caught.value)


def test_refuses_weights_that_are_not_the_cards(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    refuse(folder, "weights.safetensors: SHA-256")


def test_refuses_what_is_absent(folder):
    refuse(folder / "elsewhere", "card.json: no such file")
    (folder / WEIGHTS).unlink()
    refuse(folder, "weights.safetensors: no such file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema_version 99, expected 1"),
        ({"arch": "conv9"}, "unknown architecture 'conv9'"),
        ({"num_classes": 5, "class_names": []}, "they have 2 classes, expected 5"),
        ({"num_classes": 5}, "expected a name for each class, or none"),
        ({"num_classes": True}, "num_classes 'True', expected 1 to"),
        ({"image_size": 10**9}, "image_size '1000000000', expected 1 to 100000"),
        ({"weights": "../weights.safetensors"}, "expected 'weights.safetensors'"),
        ({"mean": [0.5]}, "mean '[0.5]', expected three numbers"),
        ({"std": [0.5, 0.5, 0]}, "std '[0.5, 0.5, 0]', expected three numbers above 0"),
    ],
)
def test_refuses_a_card(folder, changes, message):
    edit_card(folder, **changes)
    refuse(folder, message)


def test_refuses_a_damaged_card(folder):
    (folder / CARD).write_text("{")
    refuse(folder, "not valid JSON")
    (folder / CARD).write_text('{"schema_version": 1}')
    refuse(folder, "lacks arch, num_classes")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_name_the_tensor(network, tmp_path, value):
    kernels = network.variables["params"]
    broken = jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(value), kernels)
    variables = {**network.variables, "params": broken}
    save_network(dataclasses.replace(network, variables=variables), tmp_path)
    with pytest.raises(
        InputError, match=r"weights\.safetensors: 1 of [\d,]+ values of \S+ are NaN or infinite"
    ):
        load_network(tmp_path)
