"""What a network costs, from its shapes alone: nothing is computed, no weights are needed."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from delt_jax.models import registry


def forward_flops(module: nn.Module, image_size: int) -> float:
    """FLOPs of a network's forward pass of one image.

    The published convention: convolutions and matrix products alone, a multiply-add counted as 2,
    the zeros of a padding included. (XLA's own cost analysis leaves those zeros out and counts
    elementwise operations: 3.37 instead of 3.63 GFLOP for ResNet-18 at 224 px.)

    Args:
      module: from `delt_jax.models.registry.create`.
      image_size: side of the image in pixels.
    """
    variables = registry.variable_shapes(module, image_size)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)

    def forward(variables, images):
        return module.apply(variables, images, train=False)

    return _flops(jax.make_jaxpr(forward)(variables, images).jaxpr)


def _flops(jaxpr: Any) -> float:
    """Those of the products in a jaxpr and in all that it calls."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            out_shape = equation.outvars[0].aval.shape
            kernel = equation.invars[1].aval.shape
            out_axis = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2 * math.prod(out_shape) * math.prod(kernel) / kernel[out_axis]
        elif name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            length = math.prod(left[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * length
        else:
            # A function that brings its own derivative holds more than the jaxpr that is called.
            inner = [found for value in equation.params.values() for found in _jaxprs(value)]
            repeats = equation.params.get("length", 1)  # of a scan
            total += repeats * max(map(_flops, inner), default=0.0)
    return total


def _jaxprs(value: Any) -> list[Any]:
    if hasattr(value, "eqns"):
        return [value]
    if hasattr(value, "jaxpr"):
        return _jaxprs(value.jaxpr)
    return [one for item in value for one in _jaxprs(item)] if isinstance(value, tuple) else []


def kept_for_gradient(
    forward: Callable[[Any, jax.Array], Any], variables: Any, image_size: int
) -> float:
    """Bytes that autodiff keeps of each image between a forward pass and its input gradient.

    Of the program as written: a compiler that fuses or recomputes keeps less.

    Args:
      forward: `(variables, images [b h w 3]) -> anything`, such as
        `delt_jax.stages.matching.matching_forward`.
      variables: or their shapes, from `delt_jax.models.registry.variable_shapes`.
      image_size: side of the images in pixels.
    """

    def kept(count: int) -> int:
        images = jax.ShapeDtypeStruct((count, image_size, image_size, 3), jnp.float32)
        pullback = jax.eval_shape(
            lambda variables, images: jax.vjp(lambda x: forward(variables, x), images)[1],
            variables,
            images,
        )
        return tree_bytes(pullback)

    return kept(2) - kept(1)  # the weights, which are kept too, cancel


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays, or of shapes that stand for them."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
