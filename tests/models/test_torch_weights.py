"""Weights in and out, and every way in which they can be wrong."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights

ARCH, CLASSES, SIDE = "cifar_resnet20", 10, 8


def random_variables(module):
    rng = np.random.default_rng(0)
    shapes = registry.variable_shapes(module, SIDE)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def module():
    return registry.create(ARCH, CLASSES, SIDE)


@pytest.fixture(scope="module")
def state(module):
    return torch_weights.to_state_dict(random_variables(module))


def test_layout(module, state):
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    assert state["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)
    assert state["linear.weight"].shape == (10, 64)
    assert state["layer1.0.bn1.running_var"].shape == (16,)
    assert state["bn1.num_batches_tracked"].dtype == np.int64
    variables = torch_weights.from_state_dict(module, SIDE, state)
    kernel = variables["params"]["layer2.0"]["conv1"]["kernel"]
    assert kernel[2, 1, 5, 7] == state["layer2.0.conv1.weight"][7, 5, 2, 1]
    assert variables["params"]["linear"]["kernel"][3, 4] == state["linear.weight"][4, 3]


def test_round_trip_is_bit_for_bit(module, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(state, path)
    variables = torch_weights.from_state_dict(module, SIDE, torch_weights.read_state_dict(path))
    again = torch_weights.to_state_dict(variables)
    assert again.keys() == state.keys()
    for key, value in state.items():
        assert again[key].dtype == value.dtype
        np.testing.assert_array_equal(again[key], value)


def test_half_precision_becomes_float32(module, state, tmp_path):
    half = {key: jnp.asarray(value, jnp.bfloat16) for key, value in state.items()}
    path = tmp_path / "half.safetensors"
    import safetensors.flax

    safetensors.flax.save_file(half, path)
    variables = torch_weights.from_state_dict(module, SIDE, torch_weights.read_state_dict(path))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    kernel = variables["params"]["linear"]["kernel"].T
    np.testing.assert_array_equal(kernel, half["linear.weight"].astype(jnp.float32))


def test_data_parallel_prefix_is_dropped(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({f"module.{key}": value for key, value in state.items()}, path)
    assert torch_weights.read_state_dict(path).keys() == state.keys()


def refuse(module, state, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        torch_weights.from_state_dict(module, SIDE, state, source="teacher.pth")
    assert "\n" not in str(caught.value)


def test_names_every_kind_of_problem_at_once(module, state):
    broken = {key: value for key, value in state.items() if key != "layer1.1.bn2.weight"}
    broken["head.weight"] = np.zeros((4, 2), np.float32)
    broken["conv1.weight"] = np.zeros((16, 3, 7, 7), np.float32)
    refuse(
        module,
        broken,
        "teacher.pth: not those of this CifarResNet: missing layer1.1.bn2.weight (16,); "
        "unexpected head.weight (4, 2); "
        "misshapen conv1.weight (16, 3, 7, 7), expected (16, 3, 3, 3)",
    )


def test_names_a_few_and_counts_the_rest(module, state):
    shallow = {key: value for key, value in state.items() if not key.startswith("layer3.2")}
    with pytest.raises(InputError, match=r"missing .*, .*, .*, .* and 6 more"):
        torch_weights.from_state_dict(module, SIDE, shallow)


def test_says_so_where_the_classes_differ(module, state):
    other = dict(state)
    other["linear.weight"] = np.zeros((100, 64), np.float32)
    other["linear.bias"] = np.zeros(100, np.float32)
    refuse(module, other, "they have 100 classes, expected 10")


def test_refuses_another_architecture(module):
    other = registry.create("conv3", CLASSES, SIDE)
    refuse(module, torch_weights.to_state_dict(random_variables(other)), "missing")


def test_refuses_a_truncated_file(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.numpy.save(state)[:1000])
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        torch_weights.read_state_dict(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.safetensors", "absent.safetensors: no such file, expected weights"),
        ("weights.onnx", "weights of type '.onnx', expected one of .safetensors, .pth, .th, .pt"),
    ],
)
def test_refuses_a_file(name, message, tmp_path):
    with pytest.raises(InputError, match=re.escape(message)):
        torch_weights.read_state_dict(tmp_path / name)


def test_says_how_to_get_torch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "weights.pth").touch()
    with pytest.raises(InputError, match=re.escape("pip install delt_jax[torch]")):
        torch_weights.read_state_dict(tmp_path / "weights.pth")


def test_reads_a_published_network(shared_data):
    path = shared_data / "cifar10_resnet20-12fca82f.safetensors"
    state = torch_weights.read_state_dict(path)
    module = registry.create("cifar_resnet20", 10, 32)
    variables = torch_weights.from_state_dict(module, 32, state, source=str(path))
    assert len(registry.batch_norm_order(module, 32)) == 19
    kernel = variables["params"]["conv1"]["kernel"]
    assert kernel[0, 1, 2, 3] == state["conv1.weight"][3, 2, 0, 1]
