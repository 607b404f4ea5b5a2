"""What networks cost, against figures that were published or counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from delt_jax.models import cost, registry
from delt_jax.stages.matching import matching_forward


@pytest.mark.parametrize(
    ("arch", "image_size", "classes", "gmacs"),
    [
        # torchvision's own tables ("GFLOPS" there are multiply-adds), to their two decimals.
        ("resnet18", 224, 1000, 1.81),
        ("resnet50", 224, 1000, 4.09),
        ("mobilenet_v2", 224, 1000, 0.30),
        ("vit_b_16", 224, 1000, 17.56),
        ("shufflenet_v2_x0_5", 224, 1000, 0.04),
        # kuangliu/pytorch-cifar's ResNet-18: 0.56 (thop).
        ("resnet18_small", 32, 10, 0.56),
    ],
)
def test_the_flops_are_the_published_ones(arch, image_size, classes, gmacs):
    flops = cost.forward_flops(registry.create(arch, classes, image_size), image_size)
    assert round(flops / 2e9, 2) == gmacs


def test_resnet18_takes_3_63_gflop():
    flops = cost.forward_flops(registry.create("resnet18", 1000, 224), 224)
    assert flops == 2 * 1_814_073_344


def test_a_scan_counts_as_often_as_it_runs_and_a_called_function_once():
    matrix = jnp.zeros((4, 4))

    def repeated(x):
        return jax.lax.scan(lambda x, _: (jax.jit(jnp.dot)(matrix, x), None), x, None, length=5)

    jaxpr = jax.make_jaxpr(repeated)(jnp.zeros(4)).jaxpr
    assert cost._flops(jaxpr) == 5 * 2 * 16


def test_what_a_gradient_keeps_is_counted_per_image():
    weights = jnp.zeros((3, 7))

    def forward(weights, images):  # tanh keeps its output: 4 x 4 x 7 numbers of 4 bytes
        return jnp.tanh(images @ weights)

    # jax keeps 1 - tanh^2 beside it, or the output alone, by version: whole arrays of that size.
    kept = cost.kept_for_gradient(forward, weights, 4)
    assert kept in (4 * 4 * 7 * 4, 2 * 4 * 4 * 7 * 4)


def test_bfloat16_activations_take_less_memory_than_float32_ones():
    module = registry.create("conv3_w32", 10, 32)
    shapes = registry.variable_shapes(module, 32)
    wide, narrow = (
        cost.kept_for_gradient(matching_forward(module, dtype), shapes, 32)
        for dtype in (None, jnp.dtype("bfloat16"))
    )
    assert 0 < narrow < wide
