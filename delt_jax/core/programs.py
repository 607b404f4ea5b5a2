"""Whole training steps as jitted programs, from uint8 images on: everything on the device.

With a mesh (see `delt_jax.core.data_parallel`) each batch is split over its devices; what a program
is given lies whole on each of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import unfreeze
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from delt_jax import target
from delt_jax.core import data_parallel
from delt_jax.core.augment.stored_views import StoredLabels, StoredViews, show
from delt_jax.core.augment.views import (
    Statistics,
    StudentViews,
    TeacherViews,
    as_pixels,
    normalise,
    student_views,
    teacher_views,
)
from delt_jax.core.compiling import built_once, compiler_options
from delt_jax.core.training import (
    BATCH_NORM_MOMENTUM,
    Apply,
    HardLabels,
    TrainState,
    student_step,
    teacher_step,
)

COMPUTE_DTYPES = ("auto", "float32", "bfloat16")
STEPS_PER_CALL = 50  # on an accelerator with the training set in its memory


class Pool(NamedTuple):
    """Images on the device that steps choose from: a training set, or a few batches of it.

    `labels`, the classes, are not wanted where a teacher labels; `stored` is what students of
    stored labels learn in an epoch, in the place of views and a teacher.
    """

    images: UInt8[Array, "m s s 3"]
    labels: Int[Array, "m"] | None = None
    stored: StoredLabels | None = None


class Steps(NamedTuple):
    """What differs between the n steps of one call.

    Attributes:
      order: positions in the pool, a batch of b each; `[n seeds b]` where several students train at
        once.
      number: of each step; it decides the random draws, together with the key of the call.
      learning_rate: of each.
      average_weight: of each; see `delt_jax.core.training.average_weight`.
      count: how many of the n are done, int `[]`.
    """

    order: Int[Array, "n *seeds b"]
    number: Int[Array, "n"]
    learning_rate: Float[Array, "n"]
    average_weight: Float[Array, "n"]
    count: Int[Array, ""] | int

    @classmethod
    def of(
        cls,
        order: Sequence[Int[np.ndarray, "*seeds b"]],
        first: int,
        learning_rates: Sequence[float],
        average_weights: Sequence[float] | None = None,
        at_once: int = 1,
    ) -> "Steps":
        """Consecutive steps from number `first` on, filled up to `at_once` with copies of the last.

        So that calls of fewer steps need no other program.
        """
        count = len(order)
        kept = np.minimum(np.arange(at_once), count - 1)
        weights = np.zeros(count) if average_weights is None else np.asarray(average_weights)
        return cls(
            jnp.asarray(np.stack(order)[kept], jnp.int32),
            jnp.asarray(first + kept, jnp.int32),
            jnp.asarray(np.asarray(learning_rates)[kept], jnp.result_type(float)),
            jnp.asarray(weights[kept], jnp.result_type(float)),
            count,
        )


class Labeller(NamedTuple):
    """A teacher as students meet it: its variables, and the statistics of its inputs."""

    variables: dict[str, PyTree]
    statistics: Statistics


def steps_per_call(elsewhere: int = STEPS_PER_CALL) -> int:
    """How many steps a call pays for: on a CPU one, for in a loop convolutions have one thread."""
    return 1 if target.platform() == "cpu" else elsewhere


def compute_dtype(name: str) -> jnp.dtype | None:
    """Of activations, by an option's word; None stands for jax's default float.

    "auto" is bfloat16 where the hardware has it, which a CPU has not.
    """
    if name == "auto":
        name = "float32" if target.platform() == "cpu" else "bfloat16"
    return None if name == "float32" else jnp.dtype(name)


@built_once
def student_program(
    student_apply: Apply,
    teacher_apply: Apply | None,
    optimizer: optax.GradientTransformation,
    views: StudentViews | None,
    *,
    temperature: float = 20.0,
    double_bn_update: bool = True,
    bn_momenta: PyTree = BATCH_NORM_MOMENTUM,
    compute_dtype: jnp.dtype | None = None,
    mesh: Mesh | None = None,
    batch_norm: str = "synchronised",
    together: bool = False,
) -> Callable[..., tuple[TrainState, Float[Array, "n *seeds"]]]:
    """The jitted training of a student: up to n steps a call, from uint8 images to the next state.

    Args:
      student_apply: the student's `module.apply`.
      teacher_apply: the teacher's; it runs in inference mode. None: students learn what is in
        `pool.stored`, where there is such, else the classes in `pool.labels`, mixed as the images.
      optimizer: an optax transformation at learning rate 1.
      views: how images are shown, where their views are not stored; None: as they are.
      temperature: of the soft labels.
      double_bn_update: see `student_step`.
      bn_momenta: see `twice_updated`; a tree is a `FrozenDict`, so that it can be hashed.
      compute_dtype: of both networks' activations; see `teacher_program`.
      mesh: devices that share a batch; None for one device.
      batch_norm: "synchronised" (over the whole batch: the result of one device) or "per_device";
        see `data_parallel.per_device`.
      together: several students train at once, each on images, views and mixes of its own: state,
        keys and losses have an axis of seeds, as `Steps.order` has. All else they share.

    Returns:
      `program(state, pool, steps, key, statistics, labeller) -> (state, losses [n])`, as that of
      `teacher_program`; the statistics are the student's, the labeller is None without a teacher.
    """
    if batch_norm == "per_device":
        student_apply = data_parallel.per_device(student_apply, mesh)

    def step(
        state: TrainState,
        pool: Pool,
        steps: Steps,
        i: Int[Array, ""] | int,
        key: Key[Array, ""],
        statistics: Statistics,
        labeller: Labeller | None,
    ) -> tuple[TrainState, Float[Array, ""]]:
        key_views, key_dropout = jax.random.split(jax.random.fold_in(key, steps.number[i]))
        chosen = steps.order[i]
        mix = None
        if pool.stored is not None:
            pixels = show(pool.images, pool.stored.views, chosen)
        else:
            images = data_parallel.split(pool.images[chosen], mesh)
            pixels, mix = student_views(key_views, images, views)
        pixels = data_parallel.split(pixels, mesh)
        dtype = compute_dtype or pixels.dtype
        if pool.stored is not None:
            labels = pool.stored.logits[chosen].astype(pixels.dtype)
        elif teacher_apply is None:
            assert pool.labels is not None
            labels = HardLabels.mixed(pool.labels[chosen], mix)
        else:
            assert labeller is not None
            seen = normalise(pixels, labeller.statistics).astype(dtype)
            labels = teacher_apply(labeller.variables, seen, train=False)
        return student_step(
            student_apply,
            optimizer,
            state,
            normalise(pixels, statistics).astype(dtype),
            labels,
            steps.learning_rate[i],
            temperature=temperature,
            double_bn_update=double_bn_update,
            bn_momenta=unfreeze(bn_momenta),
            average_weight=steps.average_weight[i],
            dropout_key=key_dropout,
        )

    if together:
        own = Steps(order=1, number=None, learning_rate=None, average_weight=None, count=None)  # type: ignore[arg-type]
        step = jax.vmap(step, in_axes=(0, None, own, None, 0, None, None))
    return _program(step, mesh)


@built_once
def teacher_program(
    apply: Apply,
    optimizer: optax.GradientTransformation,
    views: TeacherViews,
    *,
    label_smoothing: float = 0.0,
    compute_dtype: jnp.dtype | None = None,
    mesh: Mesh | None = None,
) -> Callable[..., tuple[TrainState, Float[Array, "n"]]]:
    """The jitted training of a teacher: up to n steps a call, from uint8 images to the next state.

    Args:
      apply: the teacher's `module.apply`.
      optimizer: an optax transformation at learning rate 1.
      views: how images are shown.
      label_smoothing: see `teacher_step`.
      compute_dtype: of activations; None: jax's default float. Parameters, statistics and losses
        stay float32.
      mesh: devices that share a batch, BatchNorm synchronised; None for one device.

    Returns:
      `program(state, pool, steps, key, statistics) -> (state, losses [n])`, the state donated. The
      first `steps.count` of the n losses count; n = 1 compiles to a plain step, without a loop
      (in which convolutions on a CPU have one thread).
    """

    def step(
        state: TrainState,
        pool: Pool,
        steps: Steps,
        i: Int[Array, ""] | int,
        key: Key[Array, ""],
        statistics: Statistics,
    ) -> tuple[TrainState, Float[Array, ""]]:
        assert pool.labels is not None
        chosen = steps.order[i]
        key = jax.random.fold_in(key, steps.number[i])
        key_views, key_dropout = jax.random.split(key)
        pixels, mix = teacher_views(
            key_views, data_parallel.split(pool.images[chosen], mesh), views
        )
        labels = HardLabels.mixed(pool.labels[chosen], mix)
        images = normalise(data_parallel.split(pixels, mesh), statistics)
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

    return _program(step, mesh)


def _program(
    step: Callable[..., tuple[TrainState, Float[Array, "*seeds"]]], mesh: Mesh | None
) -> Callable[..., tuple[TrainState, Float[Array, "n *seeds"]]]:
    """Jits the loop of `step(state, pool, steps, i, *constants)` over the steps of a call."""

    def program(
        state: TrainState, pool: Pool, steps: Steps, *constants: PyTree
    ) -> tuple[TrainState, Float[Array, "n *seeds"]]:
        n = len(steps.number)
        if n == 1:
            state, loss = step(state, pool, steps, 0, *constants)
            return state, loss[None]

        def body(i, carry):
            state, losses = carry
            state, loss = step(state, pool, steps, i, *constants)
            return state, losses.at[i].set(loss)

        losses = jnp.zeros((n, *steps.order.shape[1:-1]), steps.learning_rate.dtype)
        return jax.lax.fori_loop(0, steps.count, body, (state, losses))

    return jax.jit(
        program,
        donate_argnums=0,
        out_shardings=data_parallel.replicated(mesh),
        compiler_options=compiler_options(),
    )


@built_once
def inference_program(apply: Apply, mesh: Mesh | None = None) -> Callable[..., Float[Array, "b k"]]:
    """The jitted `program(variables, images, statistics) -> logits` of uint8 images.

    With a mesh, each device computes its share of the images, which come from the host and are
    filled up to a multiple of the devices; the variables best lie there (`replicate`).
    """

    def program(
        variables: dict[str, PyTree], images: UInt8[Array, "b h w 3"], statistics: Statistics
    ) -> Float[Array, "b k"]:
        return apply(variables, normalise(as_pixels(images), statistics), train=False)

    jitted = jax.jit(program, compiler_options=compiler_options())
    if mesh is None:
        return jitted
    own = NamedSharding(mesh, PartitionSpec(data_parallel.IMAGES))

    def split_program(variables, images, statistics):
        filling = [(0, -len(images) % mesh.size), *[(0, 0)] * 3]
        shares = jax.device_put(np.pad(images, filling), own)
        return jitted(variables, shares, statistics)[: len(images)]

    return split_program


def apply_in_batches(
    function: Callable[[UInt8[np.ndarray, "b s s 3"]], Any],
    images: UInt8[np.ndarray, "n s s 3"],
    batch_size: int = 100,
) -> Float[np.ndarray, "n d"]:
    """Applies a function of image batches to a small set; the last batch is filled up.

    Args:
      function: gives one row per image, e.g. logits; called with batches of one size.
      images: uint8.
      batch_size: images a call, at most.
    """
    batch_size = min(batch_size, len(images))
    padded = np.pad(images, [(0, -len(images) % batch_size), (0, 0), (0, 0), (0, 0)])
    rows = [
        np.asarray(function(padded[place : place + batch_size]))
        for place in range(0, len(padded), batch_size)
    ]
    return np.concatenate(rows)[: len(images)]


@built_once
def labelling_program(
    apply: Apply, *, compute_dtype: jnp.dtype | None = None, mesh: Mesh | None = None
) -> Callable[..., Float[Array, "b k"]]:
    """The jitted `program(images, views, chosen, labeller) -> logits` of images by stored views.

    Args:
      apply: the teacher's `module.apply`; it runs in inference mode.
      compute_dtype: of its activations; see `teacher_program`.
      mesh: devices that share the chosen images; None for one device.

    Returns:
      The program; its logits are float16, as they are stored.
    """

    def program(
        images: UInt8[Array, "n s s 3"],
        views: StoredViews,
        chosen: Int[Array, "b"],
        labeller: Labeller,
    ) -> Float[Array, "b k"]:
        pixels = data_parallel.split(show(images, views, chosen), mesh)
        seen = normalise(pixels, labeller.statistics)
        logits = apply(labeller.variables, seen.astype(compute_dtype or seen.dtype), train=False)
        return logits.astype(jnp.float16)

    return jax.jit(
        program,
        out_shardings=data_parallel.replicated(mesh),
        compiler_options=compiler_options(),
    )
