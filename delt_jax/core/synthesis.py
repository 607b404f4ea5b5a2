"""Synthesis: one pure step over one class batch.

`step` owns the numerics. `delt_jax.core.rounds` only arranges it, and `delt_jax.core.packing` puts
several class batches side by side; neither changes what a slot goes through.

Source: DELT (arXiv 2411.19946) section 3; VILA-Lab/DELT `recover/recover.py` at f2f81ca.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from delt_jax.core.augment import geometry
from delt_jax.core.augment.geometry import View
from delt_jax.core.objectives import ImageMoments, Objective, Path

Variables = Any
Forward = Callable[[Variables, Array], tuple[Array, Mapping[Path, ImageMoments]]]
"""`(variables, normalised images [b h w c]) -> (logits [b k], moments by BatchNorm path)`."""
DrawView = Callable[[Array, Array, Array, int], View]
"""`(key, iteration, min crop scale, number of slots) -> View`."""


class State(NamedTuple):
    """What a class batch carries from step to step.

    Attributes:
      images: normalised pixels.
      first: Adam's running mean of the gradient.
      second: Adam's running mean of its square.
    """

    images: Float[Array, "*pack b h w c"]
    first: Float[Array, "*pack b h w c"]
    second: Float[Array, "*pack b h w c"]


class Slots(NamedTuple):
    """What the step must know of each slot.

    Attributes:
      labels: classes.
      active: enters the loss in this round.
      joined: has been active; Adam moves it (see `Method.departed_drift`).
      start: iteration at which it joined.
    """

    labels: Int[Array, "*pack b"]
    active: Bool[Array, "*pack b"]
    joined: Bool[Array, "*pack b"]
    start: Int[Array, "*pack b"]


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam's constants (the published ones).

    Attributes:
      beta1: decay of the mean.
      beta2: decay of the square.
      epsilon: added to the denominator.
      fresh_bias_correction: count each slot's steps from its own start. The published code counts
        the steps of the batch: bias correction is ~1 for a late joiner, whose first step is
        therefore (1 - beta1) / sqrt(1 - beta2) = 1.58 learning rates long instead of 1.
    """

    beta1: float = 0.5
    beta2: float = 0.9
    epsilon: float = 1e-8
    fresh_bias_correction: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """The parts that a step is made of; functions, so that no step branches on a name.

    Attributes:
      forward: the teacher.
      objective: what is minimised.
      draw_view: how a step looks at the images.
      low: smallest normalised value of each channel, `-mean / std`.
      high: largest one, `(1 - mean) / std`.
      adam: the optimiser's constants.
      departed_drift: where classes draw their rounds, images of a class that is done have no
        gradient any more; the published code lets Adam's momentum go on moving them (True); False
        freezes them.
    """

    forward: Forward
    objective: Objective
    draw_view: DrawView
    low: tuple[float, ...]
    high: tuple[float, ...]
    adam: Adam = Adam()
    departed_drift: bool = True


def view_drawer(
    size: int, max_scale: float, flip_probability: float, jitter: int, per_image: bool
) -> DrawView:
    """Returns the drawing of random views: one for the batch (as published) or one per image."""

    def draw(key: Array, t: Array, min_scale: Array, n: int) -> View:
        del t
        one = functools.partial(
            geometry.random_view,
            size=size,
            min_scale=min_scale,
            max_scale=max_scale,
            flip_probability=flip_probability,
            jitter=jitter,
        )
        if not per_image:
            return one(key)
        # By fold_in, not split: slot i draws the same whatever the number of slots beside it.
        return jax.vmap(lambda i: one(jax.random.fold_in(key, i)))(jnp.arange(n))

    return draw


def initial_state(images: Float[Array, "*pack b h w c"]) -> State:
    """State before the first step: the given normalised images and empty Adam moments."""
    images = jnp.asarray(images)
    return State(images, jnp.zeros_like(images), jnp.zeros_like(images))


def step(
    method: Method,
    variables: Variables,
    state: State,
    slots: Slots,
    t: Int[Array, ""],
    learning_rate: Float[Array, ""],
    view: View,
) -> tuple[State, dict[str, Array]]:
    """One iteration of one class batch.

    Args:
      method: the parts.
      variables: of the teacher.
      state: images and moments `[b, h, w, c]`.
      slots: per-slot facts `[b]`.
      t: iteration, from 0; Adam's shared count is t + 1.
      learning_rate: of this iteration.
      view: crop, flip and roll of this iteration.

    Returns:
      The new state, in which slots that have not joined are bitwise the old ones, and the metrics
      of the objective plus `loss` `[]`.
    """

    def loss_of(images: Array) -> tuple[Array, dict[str, Array]]:
        logits, moments = method.forward(variables, geometry.resample(images, view))
        return method.objective(logits, moments, slots.labels, slots.active)

    (loss, metrics), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.images)
    moved = _adam(method, state, gradient, slots, t, learning_rate)
    moves = (slots.joined if method.departed_drift else slots.active)[:, None, None, None]
    state = jax.tree.map(lambda new, old: jnp.where(moves, new, old), moved, state)
    return state, {"loss": loss, **metrics}


def _adam(method, state, gradient, slots, t, learning_rate) -> State:
    """Adam and the clip to the valid pixel range."""
    adam, dtype = method.adam, state.images.dtype
    count = t + 1 - slots.start if adam.fresh_bias_correction else t + 1
    count = jnp.maximum(count, 1).astype(dtype)  # a slot that has not joined must not divide by 0
    first = adam.beta1 * state.first + (1 - adam.beta1) * gradient
    second = adam.beta2 * state.second + (1 - adam.beta2) * gradient**2
    correction1 = 1 - jnp.asarray(adam.beta1, dtype) ** count
    correction2 = 1 - jnp.asarray(adam.beta2, dtype) ** count
    if adam.fresh_bias_correction:
        correction1, correction2 = (c[:, None, None, None] for c in (correction1, correction2))
    denominator = jnp.sqrt(second) / jnp.sqrt(correction2) + adam.epsilon
    images = state.images - (learning_rate / correction1) * (first / denominator)
    low, high = jnp.asarray(method.low, dtype), jnp.asarray(method.high, dtype)
    return State(jnp.clip(images, low, high), first, second)
