"""Teachers from weights of other people, in Python."""

import jax
import numpy as np
import pytest
import safetensors.numpy

import delt_jax
from delt_jax.models import registry, torch_weights

ARCH, SIDE = "conv3_w32", 8


def state(classes):
    rng = np.random.default_rng(0)
    shapes = registry.variable_shapes(registry.create(ARCH, classes, SIDE), SIDE)
    return torch_weights.to_state_dict(
        jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    )


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    return delt_jax.Images(images, np.arange(6) % 2, class_names=("dog", "bird"))


@pytest.mark.parametrize(
    "classes", ["bird,cat,dog", "2,0", (2, 0), ["2", "0"], ["bird, fowl", "cat", "dog"]]
)
def test_classes_cut_the_classifier(classes, data, tmp_path):
    weights, path = state(3), tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(weights, path)
    teacher = delt_jax.load_teacher(path, data, arch=ARCH, classes=classes)
    cut = torch_weights.to_state_dict(teacher.variables)
    np.testing.assert_array_equal(cut["classifier.bias"], weights["classifier.bias"][[2, 0]])
    assert teacher.class_names == ("dog", "bird")

    delt_jax.save_teacher(teacher, tmp_path / "saved")
    again = delt_jax.load_teacher(tmp_path / "saved", data)
    assert again.recipe["rows"] == [2, 0]


def test_classes_cut_a_teacher_of_ours(data, tmp_path):
    images = np.zeros((6, SIDE, SIDE, 3), np.uint8)
    three = delt_jax.Images(images, np.arange(6) % 3, class_names=("bird", "cat", "dog"))
    safetensors.numpy.save_file(state(3), tmp_path / "weights.safetensors")
    teacher = delt_jax.load_teacher(tmp_path / "weights.safetensors", three, arch=ARCH)
    delt_jax.save_teacher(teacher, tmp_path / "saved")
    with pytest.raises(delt_jax.InputError, match="has 3 classes, the data 2"):
        delt_jax.load_teacher(tmp_path / "saved", data)
    cut = delt_jax.load_teacher(tmp_path / "saved", data, classes=(2, 0))
    assert (cut.num_classes, cut.class_names) == (2, ("dog", "bird"))


def test_a_key_names_the_weights(data, tmp_path):
    weights = state(2)
    both = {f"model.{key}": np.zeros_like(value) for key, value in weights.items()}
    both |= {f"ema.{key}": value for key, value in weights.items()}
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(both, path)
    with pytest.raises(delt_jax.InputError, match="several prefixes, 'ema', 'model'"):
        delt_jax.load_teacher(path, data, arch=ARCH)
    teacher = delt_jax.load_teacher(path, data, arch=ARCH, weights_key="ema")
    read = torch_weights.to_state_dict(teacher.variables)
    np.testing.assert_array_equal(read["classifier.bias"], weights["classifier.bias"])


def test_options_are_not_ignored_for_a_saved_teacher(data, tmp_path):
    safetensors.numpy.save_file(state(2), tmp_path / "weights.safetensors")
    teacher = delt_jax.load_teacher(tmp_path / "weights.safetensors", data, arch=ARCH)
    delt_jax.save_teacher(teacher, tmp_path / "saved")
    with pytest.raises(delt_jax.InputError, match="weights_key 'ema', expected none"):
        delt_jax.load_teacher(tmp_path / "saved", data, weights_key="ema")
    with pytest.raises(delt_jax.InputError, match="or classes without data; expected data"):
        delt_jax.load_teacher(tmp_path / "saved", arch=ARCH)
