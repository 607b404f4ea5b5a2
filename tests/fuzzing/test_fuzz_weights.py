"""The importer of weights, fed with damaged and hostile files; those of torch are beside this."""

import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated, mutated_json, nothing_appears, only_clear_errors

from delt_jax.models import registry, torch_weights
from delt_jax.models.network import Network, load_network, save_network

ARCH, CLASSES, SIDE = "conv3_w32", 3, 8


@pytest.fixture(scope="module")
def network():
    module = registry.create(ARCH, CLASSES, SIDE)
    shapes = registry.variable_shapes(module, SIDE)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25, np.float32), shapes)
    return Network(ARCH, CLASSES, SIDE, variables, (0.5,) * 3, (0.5,) * 3, ("a", "b", "c"), 50.0)


@pytest.fixture(scope="module", autouse=True)
def shapes_found_once():
    """Networks are not traced anew for every example."""
    with pytest.MonkeyPatch.context() as patch:
        found = functools.lru_cache(registry.variable_shapes)
        patch.setattr(torch_weights, "variable_shapes", found)
        yield


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("around") / "teacher"
    save_network(network, folder)
    with nothing_appears(folder.parent):
        yield folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    path.touch()
    with nothing_appears(path.parent):
        yield path


def read(path, network):
    """Reads weights as stage squeeze does."""
    with only_clear_errors():
        state = torch_weights.read_state_dict(path)
        torch_weights.from_state_dict(network.module, SIDE, state, source=path.name)


def small_file():
    """A valid file that is mostly header."""
    arrays = {f"{name}.weight": np.ones((2, 2), np.float32) for name in ("conv", "bn", "fc")}
    return safetensors.numpy.save(arrays | {"n": np.zeros((), np.int64)}, {"format": "pt"})


@given(data=mutated(small_file()) | st.binary(max_size=200))
def test_damaged_safetensors(network, path, data):
    path.write_bytes(data)
    read(path, network)


HEADER = {
    "__metadata__": {"format": "pt"},
    "conv.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "scale": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]},
}


@given(header=mutated_json(HEADER), length=st.none() | st.integers(0, 2**64 - 1))
def test_other_headers_of_safetensors(network, path, header, length):
    text = header.encode()
    size = (len(text) if length is None else length).to_bytes(8, "little")
    path.write_bytes(size + text + bytes(24))
    read(path, network)


@given(st.data())
def test_other_arrays(network, data):
    """A state_dict in which some arrays have other names, shapes and types."""
    state = torch_weights.to_state_dict(network.variables)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(state)))
        array = state.pop(name)
        change = data.draw(st.sampled_from(("drop", "rename", "shape", "dtype", "empty")))
        if change == "rename":
            state[data.draw(st.text(max_size=8))] = array
        elif change == "shape":
            shape = data.draw(st.lists(st.integers(0, 3), max_size=5))
            state[name] = np.zeros(shape, array.dtype)
        elif change == "dtype":
            dtype = data.draw(st.sampled_from(("i8", "f2", "f8", "?", "c8", "u1")))
            state[name] = array.real.astype(dtype)
        elif change == "empty":
            state[name] = array[:0] if array.ndim else array
    with only_clear_errors():
        torch_weights.from_state_dict(network.module, SIDE, state)


@given(st.data())
def test_other_cards(folder, data):
    card = folder / "card.json"
    valid = card.read_bytes()
    try:
        card.write_text(data.draw(mutated_json(json.loads(valid))))
        with only_clear_errors():
            load_network(folder)
    finally:
        card.write_bytes(valid)


@given(st.data())
def test_damaged_weights_beside_a_card(folder, data):
    weights = folder / "weights.safetensors"
    valid = weights.read_bytes()
    try:
        weights.write_bytes(data.draw(mutated(valid)))
        with only_clear_errors():
            load_network(folder)
    finally:
        weights.write_bytes(valid)
