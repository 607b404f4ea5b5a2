"""Convolution and max-pooling whose input gradients are fast where XLA's own are not.

Synthesis takes the gradient of the images alone, through every window of the teacher. On CPU, XLA
turns each kernel round anew at every step, and runs the gradient of a max-pooling (a scatter) and
that of a strided convolution of three channels many times slower than their forward passes.

A window of side k, stride s and padding p sees input `s q + r` of phase r, 0 <= r < s, as tap t of
window q + shift. So the gradient of phase r is a sum over its (shift, tap), none of them a scatter,
and the phases interleave.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Float

from delt_jax import target

ADJOINT = "adjoint"  # the collection of kernels turned round
Padding = tuple[tuple[int, int], tuple[int, int]]
FEW_CHANNELS = 4  # up to so many, the gradient of a strided convolution goes phase by phase

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def with_adjoints(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables with every convolution's kernel turned round, `[k, k, out, in]`, for its gradient.

    For a network that stays as it is while many gradients are taken of its input; `Conv` uses them
    where they are there. They are as large as the kernels.
    """
    parameters: dict[tuple[str, ...], Any] = flatten_dict(dict(variables["params"]))
    kernels = {
        path: jnp.swapaxes(jnp.flip(leaf, (0, 1)), 2, 3)
        for path, leaf in parameters.items()
        if path[-1] == "kernel" and leaf.ndim == 4
    }
    return {**variables, ADJOINT: unflatten_dict(kernels)}


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c_g d"],
    stride: int,
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "b h2 w2 d"]:
    """A convolution (a correlation, as in torch) whose gradients are XLA's."""
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, None, None, _LAYOUT, groups
    )


def convolve_with_adjoint(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c d"],
    adjoint: Float[Array, "k k d c"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """`convolve`, whose gradient with respect to x is taken with the kernel turned round.

    `adjoint` follows from the kernel and has no gradient of its own; the kernel has its usual one.
    """
    return _convolve_with_adjoint(x, kernel, adjoint, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _convolve_with_adjoint(x, kernel, adjoint, stride, padding):
    del adjoint
    return convolve(x, kernel, stride, padding)


def _convolve_forward(x, kernel, adjoint, stride, padding):
    return convolve(x, kernel, stride, padding), (x, kernel, adjoint)


def _convolve_backward(stride, padding, residuals, gradient):
    x, kernel, adjoint = residuals
    _, of_kernel = jax.vjp(lambda kernel: convolve(x, kernel, stride, padding), kernel)
    if stride > 1 and x.shape[-1] <= FEW_CHANNELS:
        of_x = _by_phase(gradient, adjoint, stride, padding, x.shape[1:3])
    else:
        of_x = _dilated(gradient, adjoint, stride, padding, x.shape[1:3])
    return of_x, *of_kernel(gradient), jnp.zeros_like(adjoint)


_convolve_with_adjoint.defvjp(_convolve_forward, _convolve_backward)


def _dilated(gradient, adjoint, stride, padding, shape):
    """The gradient with respect to the input: the output's, spread by the stride, convolved."""
    pads = [
        (side - 1 - low, length - stride * (windows - 1) - 1 + low)
        for side, (low, _), length, windows in zip(
            adjoint.shape[:2], padding, shape, gradient.shape[1:3], strict=True
        )
    ]
    return lax.conv_general_dilated(
        gradient, adjoint, (1, 1), pads, (stride, stride), None, _LAYOUT
    )


def _by_phase(gradient, adjoint, stride, padding, shape):
    """The same as one convolution at stride 1 to a channel for each phase, then interleaved."""
    kernel, pads, counts = adjoint, [], []
    for axis, (side, (low, _), length, windows) in enumerate(
        zip(adjoint.shape[:2], padding, shape, gradient.shape[1:3], strict=True)
    ):
        taps = _phases(side, stride, low)
        shifts = [shift for phase in taps for shift, _ in phase]
        first, last = min(shifts), max(shifts)
        places = np.full((last - first + 1, stride), side)  # side: a row of zeros
        for r, phase in enumerate(taps):
            for shift, tap in phase:
                places[shift - first, r] = side - 1 - tap  # the adjoint is turned round
        zeros = [(0, 1 if dim == 2 * axis else 0) for dim in range(kernel.ndim)]
        kernel = jnp.take(jnp.pad(kernel, zeros), places, axis=2 * axis)
        counts.append(-(-length // stride))
        pads.append((-first, counts[-1] + last - windows))
    # now [shift, phase, shift, phase, d, c]
    shifts_h, _, shifts_w, _, d, c = kernel.shape
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(shifts_h, shifts_w, d, stride**2 * c)
    found = lax.conv_general_dilated(gradient, kernel, (1, 1), pads, None, None, _LAYOUT)
    return _interleave(found.reshape(-1, *counts, stride, stride, c), shape)


def max_pool(
    x: Float[Array, "b h w c"], side: int, stride: int, padding: int = 0
) -> Float[Array, "b h2 w2 c"]:
    """torch.nn.MaxPool2d: windows that do not fit are left out; the first of equal pixels wins."""
    if target.platform() == "tpu":
        # Its compiler has an operation for the gradient; ours would move a fifth more memory in a
        # step of ResNet-18 at 224 px (docs/performance.md).
        return _window_max(x, side, stride, padding)
    return _max_pool(x, side, stride, padding)


def _window_max(x, side, stride, padding):
    window, strides, pads = (1, side, side, 1), (1, stride, stride, 1), _around(padding)
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, window, strides, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, side, stride, padding):
    return _window_max(x, side, stride, padding)


def _around(padding):
    return (0, 0), (padding, padding), (padding, padding), (0, 0)


def _max_pool_forward(x, side, stride, padding):
    y: Array = _max_pool(x, side, stride, padding)  # pyright: ignore[reportAssignmentType]
    height, width = (stride * (count - 1) + 1 for count in y.shape[1:3])
    padded = jnp.pad(x, _around(padding), constant_values=-jnp.inf)
    winner = jnp.zeros(y.shape, jnp.int16)
    for tap in reversed(range(side**2)):
        i, j = divmod(tap, side)
        seen = padded[:, i : i + height : stride, j : j + width : stride]
        winner = jnp.where(seen == y, jnp.int16(tap), winner)
    return y, (winner, x)


def _max_pool_backward(side, stride, padding, residuals, gradient):
    winner, x = residuals
    shape = x.shape[1:3]
    counts = [-(-length // stride) for length in shape]
    phases = _phases(side, stride, padding)

    def moved(values, shifts, fill):
        """`values` at window q + shift, for every q; `fill` where there is no window."""
        pads = [
            (-shift, count + shift - windows, 0)
            for shift, count, windows in zip(shifts, counts, values.shape[1:3], strict=True)
        ]
        return lax.pad(values, jnp.array(fill, values.dtype), [(0, 0, 0), *pads, (0, 0, 0)])

    def of_phase(rows, columns):
        total = jnp.zeros((len(gradient), *counts, gradient.shape[-1]), gradient.dtype)
        for shift_h, tap_h in rows:
            for shift_w, tap_w in columns:
                shifts = shift_h, shift_w
                won = moved(winner, shifts, -1) == tap_h * side + tap_w
                total += jnp.where(won, moved(gradient, shifts, 0), 0)
        return total

    found = [jnp.stack([of_phase(rows, columns) for columns in phases], 3) for rows in phases]
    return (_interleave(jnp.stack(found, 3), shape),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _phases(side: int, stride: int, padding: int) -> list[list[tuple[int, int]]]:
    """For each phase, the (shift, tap) of the windows that see its inputs."""
    return [
        [
            ((r + padding) // stride - step, stride * step + (r + padding) % stride)
            for step in range(side)
            if stride * step + (r + padding) % stride < side
        ]
        for r in range(stride)
    ]


def _interleave(phases, shape):
    """`[b, h, w, s, s, c]`, by phase, to `[b, *shape, c]`, where height is at most h s."""
    b, h, w, stride, _, c = phases.shape
    whole = phases.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * stride, w * stride, c)
    return whole[:, : shape[0], : shape[1]]
