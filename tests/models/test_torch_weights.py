"""Weights in and out, and every way in which they can be wrong."""

import pickle
import re
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.models.swin import SwinTransformerV2

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
        "they have another stem, 7x7 (conv1.weight), expected 3x3",
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


@pytest.mark.parametrize("arch", ["alexnet", "vgg11_bn", "densenet121", "convnext_tiny"])
def test_says_so_whatever_the_classifier_is_called(arch):
    side = registry.ARCHITECTURES[arch].min_side
    published = registry.variable_shapes(registry.create(arch, 1000, side), side)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), published)
    module = registry.create(arch, CLASSES, side)
    with pytest.raises(InputError, match=r": they have 1000 classes, expected 10$"):
        torch_weights.from_state_dict(module, side, torch_weights.to_state_dict(zeros))


def test_refuses_another_architecture(module):
    other = registry.create("conv3", CLASSES, SIDE)
    refuse(module, torch_weights.to_state_dict(random_variables(other)), "missing")


def test_refuses_a_truncated_file(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.numpy.save(state)[:1000])
    with pytest.raises(InputError, match="damaged or no safetensors file"):
        torch_weights.read_state_dict(path)


@pytest.fixture(scope="module")
def swin():
    return SwinTransformerV2((1,), (2,), 8, CLASSES)


def test_buffers_follow_from_the_architecture(swin):
    variables = random_variables(swin)
    state = torch_weights.to_state_dict(variables)
    assert state["features.1.0.attn.relative_position_index"].dtype == np.int64
    assert state["features.1.0.attn.relative_coords_table"].shape == (1, 15, 15, 2)
    weights = {key: v for key, v in state.items() if not key.endswith(torch_weights.BUFFERS)}
    assert len(weights) == len(jax.tree.leaves(variables))
    for given in (state, weights):
        again = torch_weights.from_state_dict(swin, SIDE, given)
        jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_refuses_buffers_of_another_shape(swin):
    state = torch_weights.to_state_dict(random_variables(swin))
    key = "features.1.0.attn.relative_position_index"  # of windows of 7
    refuse(swin, state | {key: np.zeros(7**4)}, f"misshapen {key} (2401,), expected (4096,)")


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
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as file:  # as torch.save writes it
        file.writestr("weights/data.pkl", pickle.dumps({}, protocol=2))
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


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ("resnet18", "resnet18_small", r"another stem, 7x7 \(conv1.weight\), expected 3x3"),
        ("resnet18_small", "resnet18", r"another stem, 3x3 \(conv1.weight\), expected 7x7"),
    ],
)
def test_another_stem_is_named(theirs, ours, message):
    shapes = registry.variable_shapes(registry.create(theirs, CLASSES, 32), 32)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    state = torch_weights.to_state_dict(zeros)
    with pytest.raises(InputError, match=message) as caught:
        torch_weights.from_state_dict(registry.create(ours, CLASSES, 32), 32, state, "file.pth")
    assert str(caught.value).startswith("file.pth: not those of this ResNet: they have another")


def test_weights_for_images_of_another_side_are_named():
    def zeros(side):
        shapes = registry.variable_shapes(registry.create("deit_tiny", CLASSES, side), side)
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)

    state, module = torch_weights.to_state_dict(zeros(224)), registry.create("deit_tiny", 10, 64)
    with pytest.raises(InputError, match=r"DeiT: they are for images of side 224, expected 64$"):
        torch_weights.from_state_dict(module, 64, state)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.complex64])
def test_weights_are_floats(module, state, dtype):
    other = state | {"linear.weight": state["linear.weight"].real.astype(dtype)}
    refuse(
        module, other, f"teacher.pth: linear.weight has dtype {np.dtype(dtype)}, expected floats"
    )
