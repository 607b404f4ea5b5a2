import jax
import jax.numpy as jnp
import pytest

from benchmarks import machine
from delt_jax.models import registry
from delt_jax.runtime import matrix_rate


@pytest.mark.parametrize(
    ("arch", "size", "multiply_adds"),  # torchvision's own count of ResNet-18; He et al. (2016)
    [("resnet18", 224, 1.814e9), ("cifar_resnet20", 32, 40.8e6)],
)
def test_forward_flops_are_two_for_each_multiply_add_outside_the_padding(arch, size, multiply_adds):
    module = registry.create(arch, 1000 if size == 224 else 10, size)
    share = machine.forward_flops(module, size) / (2 * multiply_adds)
    assert 0.9 < share < 1.0


def test_demand_of_a_program_by_hand():
    compiled = jax.jit(lambda x: x + 1).lower(jnp.zeros(1000, jnp.float32)).compile()
    found = machine.demand(compiled)
    assert found == {"bytes_accessed": 8000.0, "temp_bytes": 0.0, "argument_bytes": 4000.0}


def test_rates_count_work_over_time(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(
        matrix_rate.time, "perf_counter", lambda: float(next(ticks))
    )  # 1 s a repeat
    monkeypatch.setattr(matrix_rate, "CALLS", 4)
    assert matrix_rate.matrix_rate("float32", side=8) == 4 * 2 * 8**3
    assert machine.bandwidth(size=400) == 4 * 2 * 400


def test_the_machine_is_described():
    found = machine.describe("no_such_package")
    assert found["platform"] == "cpu" and found["devices"] == jax.local_device_count()
    assert found["versions"]["no_such_package"] is None
