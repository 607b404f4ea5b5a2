"""Weights of other people, imported as stage squeeze imports them."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy

from delt_jax import defaults
from delt_jax.data.specs import get_spec
from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.models.network import Network, save_network
from delt_jax.stages import preflight, squeeze

ARCH, SIDE = "conv3_w32", 8
SPEC = dataclasses.replace(get_spec("imagenette"), image_size=SIDE)
NAMES = SPEC.class_names
ROWS = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def variables(classes):
    rng = np.random.default_rng(0)
    shapes = registry.variable_shapes(registry.create(ARCH, classes, SIDE), SIDE)
    return jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def thousand():
    """A network's state_dict with the outputs of ImageNet-1K."""
    return torch_weights.to_state_dict(variables(1000))


def options(weights, **more):
    teacher = defaults.get_base().teacher
    teacher.arch, teacher.weights = ARCH, str(weights)
    teacher.update(more)
    return teacher


def saved(state, path):
    safetensors.numpy.save_file(state, path)
    return path


def assert_cut(teacher, state, rows):
    cut = torch_weights.to_state_dict(teacher.variables)
    for name in ("classifier.weight", "classifier.bias"):
        np.testing.assert_array_equal(cut[name], state[name][rows])
    np.testing.assert_array_equal(cut["layers.conv.0.weight"], state["layers.conv.0.weight"])
    assert (teacher.num_classes, teacher.class_names) == (10, NAMES)
    assert teacher.recipe["rows"] == rows


@pytest.mark.parametrize("classes", ["imagenet1k", ",".join(map(str, ROWS)), ",".join(NAMES)])
def test_a_classifier_is_cut_to_the_classes(thousand, classes, tmp_path):
    path = saved(thousand, tmp_path / "weights.safetensors")
    teacher = squeeze.import_teacher(options(path, classes=classes), SPEC, NAMES)
    assert_cut(teacher, thousand, ROWS)


def test_other_classes_are_answered_with_the_rows_that_fit(thousand, tmp_path):
    path = saved(thousand, tmp_path / "weights.safetensors")
    message = (
        r"weights.safetensors: not those of this ConvNet: they have 1000 classes, expected 10; by "
        r"WordNet id the classes are rows 0, 217, 482, 491, ... of imagenet1k's: "
        r"teacher.classes=imagenet1k takes them"
    )
    with pytest.raises(InputError, match=message):
        squeeze.import_teacher(options(path), SPEC, NAMES)


def test_classes_in_another_order_are_put_in_order(tmp_path):
    state = torch_weights.to_state_dict(variables(10))
    path = saved(state, tmp_path / "weights.safetensors")
    classes = ",".join(reversed(NAMES))
    teacher = squeeze.import_teacher(options(path, classes=classes), SPEC, NAMES)
    assert_cut(teacher, state, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0])


def of_thousand(state):
    module = registry.create(ARCH, 1000, SIDE)
    weights = torch_weights.from_state_dict(module, SIDE, state)
    names = get_spec("imagenet1k").class_names
    return Network(ARCH, 1000, SIDE, weights, (0.5,) * 3, (0.5,) * 3, names, 50.0)


def test_a_teacher_of_another_run_is_cut(thousand, tmp_path):
    save_network(of_thousand(thousand), tmp_path / "run" / "teacher")
    teacher = squeeze.import_teacher(options(tmp_path / "run", classes="imagenet1k"), SPEC, NAMES)
    assert_cut(teacher, thousand, ROWS)
    assert (teacher.mean, teacher.top1) == ((0.5,) * 3, None)


def test_a_teacher_of_other_classes_is_answered_with_rows(thousand, tmp_path):
    save_network(of_thousand(thousand), tmp_path)
    message = "teacher.classes=0,217,482,491,497,566,569,571,574,701 takes them"
    with pytest.raises(InputError, match=message):
        squeeze.import_teacher(options(tmp_path), SPEC, NAMES)


@pytest.mark.parametrize("name", ["model.safetensors", "MODEL_BEST.SAFETENSORS"])
def test_the_weights_of_a_folder_are_read(name, tmp_path):
    state = torch_weights.to_state_dict(variables(10))
    saved(state, tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    teacher = squeeze.import_teacher(options(tmp_path), SPEC, NAMES)
    assert teacher.recipe["weights"] == name


def test_the_card_says_which_weights_were_named(tmp_path):
    state = torch_weights.to_state_dict(variables(10))
    both = {f"net.{key}": np.zeros_like(value) for key, value in state.items()}
    both |= {f"ema.module.{key}": value for key, value in state.items()}
    path = saved(both, tmp_path / "weights.safetensors")
    teacher = squeeze.import_teacher(options(path, weights_key="ema"), SPEC, NAMES)
    assert teacher.recipe["weights_key"] == "ema"
    read = torch_weights.to_state_dict(teacher.variables)
    np.testing.assert_array_equal(read["classifier.bias"], state["classifier.bias"])


@pytest.mark.parametrize("name", ["weights_key", "classes"])
def test_what_is_said_of_absent_weights_is_refused(name):
    config = defaults.get_base()
    config.data.name, config.teacher[name] = "cifar10", "cifar10"
    with pytest.raises(InputError, match=f"teacher.{name}: got 'cifar10' without teacher.weights"):
        preflight.check(config)
