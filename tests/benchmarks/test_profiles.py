import jax
import jax.numpy as jnp
import pytest

from benchmarks import profiles


@pytest.mark.parametrize(
    ("operation", "kernel", "kind"),
    [
        ("conv_general_dilated", "", "convolution"),
        ("convert_fusion", "", "element-wise"),
        ("custom-call", "sm90_xmma_dgrad_implicit_gemm_bf16", "convolution"),
        ("gemm_fusion_dot", "", "matrix product"),
        ("transpose_copy_fusion", "", "layout change"),
        ("input_reduce_fusion", "", "reduction"),
        ("reduce-window", "", "window"),
        ("loop_add_fusion", "", "element-wise"),
        ("call", "", "other"),
    ],
)
def test_kinds(operation, kernel, kind):
    assert profiles.kind_of(operation, kernel) == kind


# The first access to the type of an event's statistics warns on jax 0.12; as an error it aborts.
@pytest.mark.filterwarnings("ignore:builtin type event_stats:DeprecationWarning")
def test_a_trace_is_added_up_by_operation(tmp_path):
    program = jax.jit(lambda a: jax.lax.sort(a @ a))
    matrix = jnp.ones((64, 64))
    program(matrix).block_until_ready()
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(3):
            program(matrix).block_until_ready()
    found = profiles.device_time(tmp_path)
    assert any("sort" in name for name in found.longest)
    assert sum(found.kinds.values()) == pytest.approx(sum(found.longest.values()))
    assert min(found.longest.values()) > 0
