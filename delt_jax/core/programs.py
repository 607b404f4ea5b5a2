"""Whole training steps as jitted programs, from uint8 images on: everything on the device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from delt_jax.core.augment.views import (
    Statistics,
    StudentViews,
    TeacherViews,
    as_pixels,
    normalise,
    student_views,
    teacher_views,
)
from delt_jax.core.training import (
    BATCH_NORM_MOMENTUM,
    Apply,
    HardLabels,
    TrainState,
    student_step,
    teacher_step,
)


class Pool(NamedTuple):
    """Images on the device that steps choose from: a training set, or a few batches of it."""

    images: UInt8[Array, "m s s 3"]
    labels: Int[Array, "m"]


class Steps(NamedTuple):
    """What differs between the n steps of one call.

    Attributes:
      order: positions in the pool, a batch of b each.
      number: of each step since training began; it decides the random draws.
      learning_rate: of each.
      average_weight: of each; see `teacher_step`.
      count: how many of the n are done, int `[]`.
    """

    order: Int[Array, "n b"]
    number: Int[Array, "n"]
    learning_rate: Float[Array, "n"]
    average_weight: Float[Array, "n"]
    count: Int[Array, ""] | int


def student_program(
    student_apply: Apply,
    teacher_apply: Apply,
    optimizer: optax.GradientTransformation,
    views: StudentViews,
    *,
    temperature: float = 20.0,
    double_bn_update: bool = True,
    bn_momenta: PyTree = BATCH_NORM_MOMENTUM,
) -> Callable[..., tuple[TrainState, Float[Array, ""]]]:
    """The jitted training step of a student, from uint8 images to the next state.

    Args:
      student_apply: the student's `module.apply`.
      teacher_apply: the teacher's; it runs in inference mode.
      optimizer: an optax transformation at learning rate 1.
      views: how images are shown.
      temperature: of the soft labels.
      double_bn_update: see `student_step`.
      bn_momenta: see `twice_updated`.

    Returns:
      `program(state, teacher_variables, images, key, learning_rate, student_statistics,
      teacher_statistics) -> (state, loss)`. The state passed in is donated: use the one returned.
    """

    def program(
        state: TrainState,
        teacher_variables: dict[str, PyTree],
        images: UInt8[Array, "b h w 3"],
        key: Key[Array, ""],
        learning_rate: Float[Array, ""],
        student_statistics: Statistics,
        teacher_statistics: Statistics,
    ) -> tuple[TrainState, Float[Array, ""]]:
        key_views, key_dropout = jax.random.split(key)
        pixels = student_views(key_views, images, views)
        teacher_logits = teacher_apply(
            teacher_variables, normalise(pixels, teacher_statistics), train=False
        )
        return student_step(
            student_apply,
            optimizer,
            state,
            normalise(pixels, student_statistics),
            teacher_logits,
            learning_rate,
            temperature=temperature,
            double_bn_update=double_bn_update,
            bn_momenta=bn_momenta,
            dropout_key=key_dropout,
        )

    return jax.jit(program, donate_argnums=0)


def teacher_program(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    views: TeacherViews,
    *,
    label_smoothing: float = 0.0,
    compute_dtype: jnp.dtype | None = None,
) -> Callable[..., tuple[TrainState, Float[Array, "n"]]]:
    """The jitted training of a teacher: up to n steps a call, from uint8 images to the next state.

    Args:
      apply: the teacher's `module.apply`.
      optimizer: an optax transformation at learning rate 1.
      views: how images are shown.
      label_smoothing: see `teacher_step`.
      compute_dtype: of activations; None: jax's default float. Parameters, statistics and losses
        stay float32.

    Returns:
      `program(state, pool, steps, key, statistics) -> (state, losses [n])`, the state donated. The
      first `steps.count` of the n losses count; n = 1 compiles to a plain step, without a loop
      (in which convolutions on a CPU have one thread).
    """

    def step(
        state: TrainState, pool: Pool, steps: Steps, key: Key[Array, ""], statistics: Statistics, i
    ) -> tuple[TrainState, Float[Array, ""]]:
        chosen = steps.order[i]
        key = jax.random.fold_in(key, steps.number[i])
        key_views, key_dropout = jax.random.split(key)
        pixels, mix = teacher_views(key_views, pool.images[chosen], views)
        own = pool.labels[chosen]
        labels = HardLabels(own)
        if mix is not None:
            labels = HardLabels(own, own[mix.permutation], mix.kept)
        images = normalise(pixels, statistics)
        return teacher_step(
            apply,
            optimizer,
            state,
            images.astype(compute_dtype or images.dtype),
            labels,
            steps.learning_rate[i],
            label_smoothing=label_smoothing,
            average_weight=steps.average_weight[i],
            dropout_key=key_dropout,
        )

    def program(
        state: TrainState,
        pool: Pool,
        steps: Steps,
        key: Key[Array, ""],
        statistics: Statistics,
    ) -> tuple[TrainState, Float[Array, "n"]]:
        n = len(steps.number)
        if n == 1:
            state, loss = step(state, pool, steps, key, statistics, 0)
            return state, loss[None]

        def body(i, carry):
            state, losses = carry
            state, loss = step(state, pool, steps, key, statistics, i)
            return state, losses.at[i].set(loss)

        losses = jnp.zeros(n, steps.learning_rate.dtype)
        return jax.lax.fori_loop(0, steps.count, body, (state, losses))

    return jax.jit(program, donate_argnums=0)


def inference_program(apply: Apply) -> Callable[..., Float[Array, "b k"]]:
    """The jitted `program(variables, images, statistics) -> logits` of uint8 images."""

    def program(
        variables: dict[str, PyTree], images: UInt8[Array, "b h w 3"], statistics: Statistics
    ) -> Float[Array, "b k"]:
        return apply(variables, normalise(as_pixels(images), statistics), train=False)

    return jax.jit(program)
