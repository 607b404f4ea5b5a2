"""Bytes counted in programs whose bytes are known."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.traffic import traffic

PROGRAM = """HloModule step, is_scheduled=true

%fused_computation (p.0: f32[8,4]) -> f32[8,4] {
  %p.0 = f32[8,4]{1,0} parameter(0)
  ROOT %inner = f32[8,4]{1,0} add(%p.0, %p.0)
}

%body (carry: (f32[8,4], bf16[16])) -> (f32[8,4], bf16[16]) {
  %carry = (f32[8,4]{1,0}, bf16[16]{0}) parameter(0)
  %a = f32[8,4]{1,0} get-tuple-element(%carry), index=0
  %b = bf16[16]{0} get-tuple-element(%carry), index=1
  %sum = f32[8,4]{1,0} fusion(%a), kind=kLoop, calls=%fused_computation
  %turned = f32[4,8]{1,0:T(8,128)} transpose(%sum), dimensions={1,0}
  %closer = (bf16[16]{0:S(1)}, bf16[16]{0}, u32[]{:S(2)}) copy-start(%b)
  %there = bf16[16]{0:S(1)} copy-done(%closer)
  %gemm = (f32[4,4]{1,0}, s8[4194304]{0}) custom-call(%turned, %sum), custom_call_target="gemm"
  %shared = f32[8,4]{1,0} all-reduce(%sum), to_apply=%add
  ROOT %out = (f32[8,4]{1,0}, bf16[16]{0}) tuple(%shared, %there)
}

ENTRY %main (x: f32[8,4], y: bf16[16]) -> (f32[8,4], bf16[16]) {
  %x = f32[8,4]{1,0} parameter(0)
  %y = bf16[16]{0} parameter(1)
  %start = (f32[8,4]{1,0}, bf16[16]{0}) tuple(%x, %y)
  ROOT %loop = (f32[8,4]{1,0}, bf16[16]{0}) while(%start), condition=%go, body=%body
}
"""


def test_the_body_of_the_loop_counts_once_and_what_is_fused_not_at_all():
    found = traffic(PROGRAM)
    block = 8 * 4 * 4
    assert found.kinds == {
        "element-wise": 2 * block,
        "layout change": 2 * block,
        "prefetch": 2 * 32 + 4,  # from and to, and the flag that says it is done
        "matrix product": 2 * block + 64,  # without its workspace
        "reduction": 2 * block,
    }
    assert found.bytes == sum(found.kinds.values())
    assert found.operations == 5 and found.collectives == 1


@pytest.mark.parametrize("count", [1, 3])
def test_a_compiled_loop(count):
    program = jax.jit(
        lambda x: jax.lax.fori_loop(0, count, lambda _, y: jnp.sin(y) + 1, x), donate_argnums=0
    )
    compiled = program.lower(jax.ShapeDtypeStruct((256, 1024), jnp.float32)).compile()
    found = traffic(compiled.as_text() or "")
    assert found.kinds["element-wise"] == pytest.approx(2 * 256 * 1024 * 4, rel=1e-3)
    assert found.collectives == 0
