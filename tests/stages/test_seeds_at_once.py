"""How many seeds train together."""

import types

import jax
import pytest
from tiny_run import SIZE, make_config

from delt_jax.data.specs import SPECS
from delt_jax.models import registry
from delt_jax.models.network import Network
from delt_jax.runtime import mesh
from delt_jax.stages import seeds_at_once as module_under_test
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.seeds_at_once import seeds_at_once, student_bytes

TEACHER = Network("conv3", 10, 32, {}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.fixture
def protocol(tmp_path):
    return read_protocol(make_config(tmp_path), "conv3", SPECS["cifar10"], TEACHER)


def test_a_cpu_trains_one_after_another_unless_asked(protocol):
    module = registry.create("conv3", 3, SIZE)
    assert seeds_at_once(0, 3, module, SIZE, protocol, 0) == 1
    assert seeds_at_once(2, 3, module, SIZE, protocol, 0) == 2
    assert seeds_at_once(9, 3, module, SIZE, protocol, 0) == 3


@pytest.mark.parametrize(("room", "expected"), [(0.5, 1), (2.5, 2), (3.5, 2), (4.0, 4), (99, 4)])
def test_an_accelerator_trains_what_fits_in_equal_groups(monkeypatch, protocol, room, expected):
    module = registry.create("conv3", 3, SIZE)
    device = types.SimpleNamespace(platform="gpu")
    monkeypatch.setattr(mesh, "local_devices", lambda: [device])
    student = student_bytes(module, SIZE, protocol, protocol.batch_size)
    monkeypatch.setattr(module_under_test, "memory_limit", lambda device: room * (student + 100))
    assert seeds_at_once(0, 4, module, SIZE, protocol, 100) == expected
    monkeypatch.setattr(module_under_test, "memory_limit", lambda device: None)
    assert seeds_at_once(0, 4, module, SIZE, protocol, 100) == 1


def test_bytes_of_a_student_grow_with_its_batch_and_its_average(tmp_path, protocol):
    module = registry.create("conv3", 3, SIZE)
    variables = registry.variable_shapes(module, SIZE)
    weights = sum(4 * leaf.size for leaf in jax.tree.leaves(variables["params"]))
    none = student_bytes(module, SIZE, protocol, 0)
    # Weights and two moments twice, and a gradient; statistics and Adam's count are little more.
    assert 7 * weights <= none < 7.2 * weights
    one, two = (student_bytes(module, SIZE, protocol, share) - none for share in (1, 2))
    assert two == 2 * one > SIZE * SIZE * 128 * 4  # the first convolution's output at least
    config = make_config(tmp_path)
    config.evaluate.average_decay = 0.9
    averaged = read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)
    assert 9 * weights <= student_bytes(module, SIZE, averaged, 0) < 9.2 * weights
