"""Training steps of students (on a teacher's soft labels) and of teachers (on hard labels).

Source of the student's step: VILA-Lab/DELT `evaluation/validation/main.py` at f2f81ca (from
LINs-lab/RDED). Every step is a pure function of arrays; the learning rate is an argument, so a
schedule costs no compilation, and the optimiser is any `optax` transformation built for a learning
rate of 1.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from delt_jax.core.augment.views import (
    Statistics,
    StudentViews,
    as_pixels,
    normalise,
    pad_crop_flip,
    student_views,
)

Apply = Callable[..., Any]  # flax's module.apply: (variables, images, train=..., mutable=...)

BATCH_NORM_MOMENTUM = 0.1  # torch's default, which every network here keeps


class TrainState(NamedTuple):
    """What one training step hands to the next.

    Attributes:
      params: trained parameters.
      batch_stats: running statistics of the BatchNorm layers; `{}` in a network without any.
      optimizer_state: state of the optimiser.
    """

    params: PyTree
    batch_stats: PyTree
    optimizer_state: optax.OptState

    @property
    def variables(self) -> dict[str, PyTree]:
        """The tree that `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    optimizer: optax.GradientTransformation, variables: dict[str, PyTree]
) -> TrainState:
    """The state before the first step."""
    params = variables["params"]
    return TrainState(params, variables.get("batch_stats", {}), optimizer.init(params))


# Optimisers and schedules.


def decayed(params: PyTree) -> PyTree:
    """Which parameters weight decay applies to: those of rank > 1 (no bias, no BatchNorm scale)."""
    return jax.tree.map(lambda parameter: jnp.ndim(parameter) > 1, params)


def adamw(weight_decay: float = 0.01) -> optax.GradientTransformation:
    """The student's AdamW at learning rate 1: betas (0.9, 0.999), eps 1e-8, decoupled decay.

    torch multiplies the weights by `1 - lr weight_decay` before the Adam step, optax adds the decay
    to the update: the same sum, because both scale with the learning rate.
    """
    return optax.adamw(1.0, 0.9, 0.999, 1e-8, weight_decay=weight_decay, mask=decayed)


def nesterov(weight_decay: float, momentum: float = 0.9) -> optax.GradientTransformation:
    """The teacher's SGD at learning rate 1: Nesterov momentum, weight decay inside the gradient."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.sgd(1.0, momentum=momentum, nesterov=True),
    )


def student_learning_rate(
    learning_rate: float, epoch: int, epochs: int, stretch: float = 2.0
) -> float:
    """`learning_rate (1 + cos(pi epoch / (stretch epochs))) / 2`, constant within an epoch.

    With a stretch of 2 (the published one, a quirk that helps) training ends at half the first
    rate.
    """
    return learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / (stretch * epochs)))


def warmup_cosine(learning_rate: float, step: int, steps: int, warmup_steps: int) -> float:
    """Linear from 0 over `warmup_steps`, then half a cosine down to 0 at `steps`."""
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


# Losses and figures of merit.


def distillation_loss(
    student_logits: Float[Array, "b k"], teacher_logits: Float[Array, "b k"], temperature: float
) -> Float[Array, ""]:
    """`KL(softmax(teacher / T) || softmax(student / T))`, mean over the batch.

    Without the factor T^2 of Hinton et al. (the published code leaves it out, and Adam is blind to
    it but for its epsilon).
    """
    log_teacher = jax.nn.log_softmax(teacher_logits / temperature)
    log_student = jax.nn.log_softmax(student_logits / temperature)
    return jnp.mean(jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1))


def smoothed_cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], smoothing: float
) -> Float[Array, ""]:
    """Mean cross-entropy against `(1 - smoothing) one_hot + smoothing / k`, as torch's."""
    log_probabilities = jax.nn.log_softmax(logits)
    true = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    return -jnp.mean((1 - smoothing) * true + smoothing * jnp.mean(log_probabilities, axis=-1))


# Steps.


def twice_updated(before: PyTree, after: PyTree, momentum: float = BATCH_NORM_MOMENTUM) -> PyTree:
    """Running statistics after a second update with the same batch.

    One update is `after = (1 - m) before + m batch`. A second one with the same batch statistics is
    `(1 - m) after + m batch = after + (1 - m) (after - before)`, which needs no second forward.

    Args:
      before: running statistics before the first update.
      after: running statistics after it.
      momentum: m, the weight of the batch.

    Returns:
      The tree of `after`, updated once more.
    """
    return jax.tree.map(lambda old, new: new + (1 - momentum) * (new - old), before, after)


def student_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, "b h w c"],
    teacher_logits: Float[Array, "b k"],
    learning_rate: Float[Array, ""] | float,
    *,
    temperature: float = 20.0,
    double_bn_update: bool = True,
    dropout_key: Key[Array, ""] | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One step of a student towards the teacher's labels.

    Args:
      apply: the student's `module.apply`.
      optimizer: an optax transformation at learning rate 1, e.g. `adamw()`.
      state: parameters, running statistics, optimiser state.
      images: mixed, normalised with the student's statistics.
      teacher_logits: the teacher's on the same mixed images, at temperature 1.
      learning_rate: of this step.
      temperature: divides the logits of both.
      double_bn_update: update the running statistics twice, as the published code does. Its extra
        forward in train mode comes before the step, sees the same parameters and the same (already
        mixed) batch, and only this remains of it. NOTE(parity): a network that drops units or paths
        at random ahead of a BatchNorm would draw afresh in that forward; here both share a draw.
      dropout_key: key of the network's dropout, for those that have any.

    Returns:
      The next state and the loss before the step.
    """
    state, loss, batch_stats = _descend(
        *(apply, optimizer, state, images, learning_rate, dropout_key),
        lambda logits: distillation_loss(logits, teacher_logits, temperature),
    )
    if double_bn_update:
        batch_stats = twice_updated(state.batch_stats, batch_stats)
    return state._replace(batch_stats=batch_stats), loss


def teacher_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, "b h w c"],
    labels: Int[Array, "b"],
    learning_rate: Float[Array, ""] | float,
    *,
    label_smoothing: float = 0.0,
    dropout_key: Key[Array, ""] | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One step of a teacher on hard labels; arguments and returns as `student_step`'s."""
    state, loss, batch_stats = _descend(
        *(apply, optimizer, state, images, learning_rate, dropout_key),
        lambda logits: smoothed_cross_entropy(logits, labels, label_smoothing),
    )
    return state._replace(batch_stats=batch_stats), loss


def _descend(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, "b h w c"],
    learning_rate: Float[Array, ""] | float,
    dropout_key: Key[Array, ""] | None,
    loss_of: Callable[[Array], Array],
) -> tuple[TrainState, Array, PyTree]:
    """Steps the parameters down the loss of the logits in train mode.

    Returns:
      The state with its old running statistics, the loss before the step, the updated statistics.
    """
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    def objective(params: PyTree) -> tuple[Array, PyTree]:
        variables = state._replace(params=params).variables
        logits, updated = apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return loss_of(logits), updated.get("batch_stats", {})

    (loss, batch_stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
    direction, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = jax.tree.map(
        lambda parameter, change: parameter + learning_rate * change, state.params, direction
    )
    return TrainState(params, state.batch_stats, optimizer_state), loss, batch_stats


# Whole programs: one call a step, everything on the device.


def student_program(
    student_apply: Apply,
    teacher_apply: Apply,
    optimizer: optax.GradientTransformation,
    views: StudentViews,
    *,
    temperature: float = 20.0,
    double_bn_update: bool = True,
) -> Callable[..., tuple[TrainState, Float[Array, ""]]]:
    """The jitted training step of a student, from uint8 images to the next state.

    Args:
      student_apply: the student's `module.apply`.
      teacher_apply: the teacher's; it runs in inference mode.
      optimizer: an optax transformation at learning rate 1.
      views: how images are shown.
      temperature: of the soft labels.
      double_bn_update: see `student_step`.

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
            dropout_key=key_dropout,
        )

    return jax.jit(program, donate_argnums=0)


def teacher_program(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    *,
    padding: int,
    flip_probability: float = 0.5,
    label_smoothing: float = 0.0,
) -> Callable[..., tuple[TrainState, Float[Array, ""]]]:
    """The jitted training step of a teacher, from uint8 images to the next state.

    Returns:
      `program(state, images, labels, key, learning_rate, statistics) -> (state, loss)`, the state
      donated.
    """

    def program(
        state: TrainState,
        images: UInt8[Array, "b h w 3"],
        labels: Int[Array, "b"],
        key: Key[Array, ""],
        learning_rate: Float[Array, ""],
        statistics: Statistics,
    ) -> tuple[TrainState, Float[Array, ""]]:
        key_views, key_dropout = jax.random.split(key)
        shown = pad_crop_flip(key_views, images, padding, flip_probability)
        return teacher_step(
            apply,
            optimizer,
            state,
            normalise(as_pixels(shown), statistics),
            labels,
            learning_rate,
            label_smoothing=label_smoothing,
            dropout_key=key_dropout,
        )

    return jax.jit(program, donate_argnums=0)


def inference_program(apply: Apply) -> Callable[..., Float[Array, "b k"]]:
    """The jitted `program(variables, images, statistics) -> logits` of uint8 images."""

    def program(
        variables: dict[str, PyTree], images: UInt8[Array, "b h w 3"], statistics: Statistics
    ) -> Float[Array, "b k"]:
        return apply(variables, normalise(as_pixels(images), statistics), train=False)

    return jax.jit(program)
