"""Training steps of students (on soft or hard labels) and of teachers (on hard labels).

Source of the student's step: VILA-Lab/DELT `evaluation/validation/main.py` at f2f81ca (from
LINs-lab/RDED). Every step is a pure function of arrays; the learning rate is an argument, so a
schedule costs no compilation, and the optimiser is any `optax` transformation built for a learning
rate of 1.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from delt_jax.core.augment.mixing import MixUp

Apply = Callable[..., Any]  # flax's module.apply: (variables, images, train=..., mutable=...)

BATCH_NORM_MOMENTUM = 0.1  # torch's default, which most networks keep


class TrainState(NamedTuple):
    """What one training step hands to the next.

    Attributes:
      params: trained parameters.
      batch_stats: running statistics of the BatchNorm layers; `{}` in a network without any.
      optimizer_state: state of the optimiser.
      average: moving average of the variables over the steps; None where none is kept.
    """

    params: PyTree
    batch_stats: PyTree
    optimizer_state: optax.OptState
    average: PyTree = None

    @property
    def variables(self) -> dict[str, PyTree]:
        """The tree that `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def trained(self) -> dict[str, PyTree]:
        """What training is for: the average of the variables where one is kept, else they."""
        return self.variables if self.average is None else self.average


def create_state(
    optimizer: optax.GradientTransformation, variables: dict[str, PyTree], averaged: bool = False
) -> TrainState:
    """The state before the first step; `averaged`: a moving average of the variables is kept."""
    params = variables["params"]
    state = TrainState(params, variables.get("batch_stats", {}), optimizer.init(params))
    if averaged:  # copies, because the state is donated and holds no buffer twice
        state = state._replace(average=jax.tree.map(jnp.copy, state.variables))
    return state


# Optimisers and schedules.


def decayed(params: PyTree) -> PyTree:
    """Which parameters weight decay applies to: those of rank > 1 (no bias, no BatchNorm scale)."""
    return jax.tree.map(lambda parameter: jnp.ndim(parameter) > 1, params)


@functools.cache
def adamw(weight_decay: float = 0.01) -> optax.GradientTransformation:
    """The student's AdamW at learning rate 1: betas (0.9, 0.999), eps 1e-8, decoupled decay.

    torch multiplies the weights by `1 - lr weight_decay` before the Adam step, optax adds the decay
    to the update: the same sum, because both scale with the learning rate.
    """
    return optax.adamw(1.0, 0.9, 0.999, 1e-8, weight_decay=weight_decay, mask=decayed)


@functools.cache
def sgd(
    weight_decay: float, momentum: float = 0.9, nesterov: bool = False
) -> optax.GradientTransformation:
    """SGD with momentum at learning rate 1: weight decay inside the gradient, as torch's."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.sgd(1.0, momentum=momentum, nesterov=nesterov),
    )


def nesterov(weight_decay: float, momentum: float = 0.9) -> optax.GradientTransformation:
    """The teacher's SGD at learning rate 1: `sgd` with Nesterov's momentum."""
    return sgd(weight_decay, momentum, nesterov=True)


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


def average_weight(decay: float, step: int) -> float:
    """Weight of the newest variables in their moving average: `1 - decay`, larger in the beginning.

    `1 - min(decay, (1 + step) / (10 + step))`, so that the first, random variables are forgotten
    (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
    """
    return 1 - min(decay, (1 + step) / (10 + step))


# Losses and figures of merit.


def distillation_loss(
    student_logits: Float[Array, "b k"], teacher_logits: Float[Array, "b k"], temperature: float
) -> Float[Array, ""]:
    """`KL(softmax(teacher / T) || softmax(student / T))`, mean over the batch.

    Without the factor T^2 of Hinton et al. (the published code leaves it out, and Adam is blind to
    it but for its epsilon). At least in float32.
    """
    log_teacher = jax.nn.log_softmax(_at_least_float32(teacher_logits) / temperature)
    log_student = jax.nn.log_softmax(_at_least_float32(student_logits) / temperature)
    return jnp.mean(jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1))


def smoothed_cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, "b"], smoothing: float
) -> Float[Array, ""]:
    """Mean cross-entropy against `(1 - smoothing) one_hot + smoothing / k`, as torch's."""
    log_probabilities = jax.nn.log_softmax(logits)
    true = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    return -jnp.mean((1 - smoothing) * true + smoothing * jnp.mean(log_probabilities, axis=-1))


class HardLabels(NamedTuple):
    """Classes of a batch of images that may have been mixed with one another.

    Attributes:
      own: class of each image.
      partner: class of what was mixed into it; None where nothing was.
      share: of the image in the mix, for the whole batch.
    """

    own: Int[Array, "b"]
    partner: Int[Array, "b"] | None = None
    share: Float[Array, ""] | float = 1.0

    @classmethod
    def mixed(cls, classes: Int[Array, "b"], mix: MixUp | None) -> "HardLabels":
        """Of images of these classes after a mix (None: as they were)."""
        return cls(classes) if mix is None else cls(classes, classes[mix.permutation], mix.kept)


def mixed_cross_entropy(
    logits: Float[Array, "b k"], labels: HardLabels, smoothing: float = 0.0
) -> Float[Array, ""]:
    """`share CE(own) + (1 - share) CE(partner)`, means over the batch. At least in float32.

    Args:
      logits: of the mixed images.
      labels: of the images and of what was mixed into them.
      smoothing: see `smoothed_cross_entropy`.
    """
    logits = _at_least_float32(logits)
    own = smoothed_cross_entropy(logits, labels.own, smoothing)
    if labels.partner is None:
        return own
    partner = smoothed_cross_entropy(logits, labels.partner, smoothing)
    return labels.share * own + (1 - labels.share) * partner


def _at_least_float32(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


# Steps.


def twice_updated(before: PyTree, after: PyTree, momenta: PyTree = BATCH_NORM_MOMENTUM) -> PyTree:
    """Running statistics after a second update with the same batch.

    One update is `after = (1 - m) before + m batch`. A second one with the same batch statistics is
    `(1 - m) after + m batch = after + (1 - m) (after - before)`, which needs no second forward.

    Args:
      before: running statistics before the first update.
      after: running statistics after it.
      momenta: m, the weight of the batch: one number, or a tree of them.

    Returns:
      The tree of `after`, updated once more.
    """
    momenta = jax.tree.broadcast(momenta, before)
    return jax.tree.map(lambda old, new, m: new + (1 - m) * (new - old), before, after, momenta)


def student_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, "b h w c"],
    labels: Float[Array, "b k"] | HardLabels,
    learning_rate: Float[Array, ""] | float,
    *,
    temperature: float = 20.0,
    double_bn_update: bool = True,
    bn_momenta: PyTree = BATCH_NORM_MOMENTUM,
    average_weight: Float[Array, ""] | float = 0.0,
    dropout_key: Key[Array, ""] | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One step of a student, towards the teacher's labels or the classes.

    Args:
      apply: the student's `module.apply`.
      optimizer: an optax transformation at learning rate 1, e.g. `adamw()`.
      state: parameters, running statistics, optimiser state, and an average where one is kept.
      images: mixed, normalised with the student's statistics; their dtype is that of the
        computation.
      labels: the teacher's logits on the same mixed images, at temperature 1; or classes.
      learning_rate: of this step.
      temperature: divides the logits of both; classes know none.
      double_bn_update: update the running statistics twice, as the published code does. Its extra
        forward in train mode comes before the step, sees the same parameters and the same (already
        mixed) batch, and only this remains of it. NOTE(parity): a network that drops units or paths
        at random ahead of a BatchNorm would draw afresh in that forward; here both share a draw.
      bn_momenta: see `twice_updated`.
      average_weight: of the new variables in the state's average.
      dropout_key: key of the network's dropout, for those that have any.

    Returns:
      The next state and the loss before the step.
    """

    def loss_of(logits: Array) -> Array:
        if isinstance(labels, HardLabels):
            return mixed_cross_entropy(logits, labels)
        return distillation_loss(logits, labels, temperature)

    state, loss, batch_stats = _descend(
        apply, optimizer, state, images, learning_rate, dropout_key, loss_of
    )
    if double_bn_update:
        batch_stats = twice_updated(state.batch_stats, batch_stats, bn_momenta)
    return _averaged(state._replace(batch_stats=batch_stats), average_weight), loss


def teacher_step(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    images: Float[Array, "b h w c"],
    labels: HardLabels,
    learning_rate: Float[Array, ""] | float,
    *,
    label_smoothing: float = 0.0,
    average_weight: Float[Array, ""] | float = 0.0,
    dropout_key: Key[Array, ""] | None = None,
) -> tuple[TrainState, Float[Array, ""]]:
    """One step of a teacher on hard labels.

    Args:
      apply: the teacher's `module.apply`.
      optimizer: an optax transformation at learning rate 1, e.g. `nesterov()`.
      state: parameters, running statistics, optimiser state, and an average where one is kept.
      images: mixed or not, normalised; their dtype is that of the computation.
      labels: of the images and of what was mixed into them.
      learning_rate: of this step.
      label_smoothing: share of the target that is spread over all classes.
      average_weight: of the new variables in the state's average.
      dropout_key: key of the network's dropout, for those that have any.

    Returns:
      The next state and the loss before the step.
    """
    state, loss, batch_stats = _descend(
        *(apply, optimizer, state, images, learning_rate, dropout_key),
        lambda logits: mixed_cross_entropy(logits, labels, label_smoothing),
    )
    return _averaged(state._replace(batch_stats=batch_stats), average_weight), loss


def _averaged(state: TrainState, weight: Float[Array, ""] | float) -> TrainState:
    """Moves the state's average, where one is kept, towards its variables."""
    if state.average is None:
        return state
    average = jax.tree.map(
        lambda old, new: old + weight * (new - old), state.average, state.variables
    )
    return state._replace(average=average)


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
    return state._replace(params=params, optimizer_state=optimizer_state), loss, batch_stats
