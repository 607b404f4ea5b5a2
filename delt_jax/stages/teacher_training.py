"""A teacher trained from scratch on hard labels, as `config.teacher.squeeze` says."""

import collections
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int64

from delt_jax.core import data_parallel, programs, training
from delt_jax.core.augment.views import Statistics, TeacherViews
from delt_jax.data.pipeline import UNREADABLE, Batch
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.runtime import interruption, save_points
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.save_points import SavePoints
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import options as table
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.fingerprint import fingerprint

CALLS_AHEAD = 2  # calls that the device has queued while the host prepares the next one


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a teacher is trained; the fields are those of `config.teacher.squeeze`."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    warmup_epochs: float
    crop: str
    pad: int
    min_scale: float
    stored_side: int
    flip: bool
    cutmix: float
    cutmix_probability: float
    average_decay: float
    compute_dtype: str

    @classmethod
    def read(cls, options: Any) -> "Recipe":
        """From `config.teacher.squeeze`; raises `InputError` naming what is out of range."""
        table.check(options, "teacher.squeeze")
        recipe = cls(**{field.name: options[field.name] for field in dataclasses.fields(cls)})
        if recipe.cutmix_probability and recipe.cutmix <= 0:
            raise InputError(
                f"teacher.squeeze.cutmix: got {recipe.cutmix} with teacher.squeeze."
                f"cutmix_probability {recipe.cutmix_probability}, expected more than 0"
            )
        return recipe

    def side(self, image_size: int) -> int:
        """Side of the images that views are cut from."""
        if self.crop == "pad":
            return image_size
        return max(self.stored_side, image_size)


def train_teacher(
    arch: str,
    image_size: int,
    images: CroppedImages,
    moments: Statistics,
    recipe: Recipe,
    seed: int,
    workdir: WorkDir,
    save_minutes: float = save_points.MINUTES,
) -> tuple[dict, float]:
    """Trains a teacher; goes on from the last checkpoint of the same recipe.

    Every epoch is a new permutation; its ragged last batch is left out. A training set that fits
    lies in the device's memory as uint8, and an accelerator then does many steps a call. The
    devices of this process share every batch; see `delt_jax.core.data_parallel`.

    Args:
      arch: architecture.
      image_size: side of the images in pixels.
      images: the training set, of side `recipe.side(image_size)`. Where it is decoded on every
        pass, an image that cannot be read is replaced by the first one of its batch that can.
      moments: of the normalisation.
      recipe: how to train.
      seed: of initial weights, order and views.
      workdir: for checkpoints and metrics.
      save_minutes: between two checkpoints.

    Returns:
      The variables (their moving average, where the recipe keeps one), and the seconds that
      earlier, interrupted runs had spent.

    Raises:
      InputError: where there are no images, or none of a batch can be read, or the loss is no
        longer finite.
    """
    if len(images) == 0:
        reason = next((f" ({reason})" for reason in images.problems.values()), "")
        raise InputError(f"teacher: no training images{reason}; expected at least one")
    recipe = dataclasses.replace(recipe, batch_size=min(recipe.batch_size, len(images)))
    module = registry.create(arch, len(images.class_names), image_size)
    optimizer = training.nesterov(recipe.weight_decay, recipe.momentum)
    mesh = device_mesh(data_parallel.IMAGES)
    program = programs.teacher_program(
        module.apply,
        optimizer,
        TeacherViews(
            size=image_size,
            crop=recipe.crop,
            pad=recipe.pad,
            min_scale=recipe.min_scale,
            flip_probability=0.5 if recipe.flip else 0.0,
            cutmix=recipe.cutmix,
            cutmix_probability=recipe.cutmix_probability,
        ),
        label_smoothing=recipe.label_smoothing,
        compute_dtype=programs.compute_dtype(recipe.compute_dtype),
        mesh=mesh,
    )
    variables = registry.initialise(module, image_size, stream(seed, "squeeze", "init"))
    state = training.create_state(optimizer, variables, averaged=recipe.average_decay > 0)
    state = data_parallel.replicate(state, mesh)
    del variables  # the state's buffers are donated from now on
    key = stream(seed, "squeeze", "views")
    plan = _Plan(recipe, len(images))
    log = MetricsLog(workdir.metrics_jsonl)
    identity = fingerprint(
        {"arch": arch, "recipe": dataclasses.asdict(recipe), "seed": seed, "images": len(images)},
        images.labels,
        *moments,
    )

    folder = workdir.teacher / f".training-{identity[:12]}"
    unreadable = folder / "unreadable.json"  # what `images.problems` was at the last checkpoint
    with (
        Checkpointer(folder) as checkpoints,
        interruption.held_back(),
    ):
        done, seconds_before = 0, 0.0
        restored = checkpoints.restore_latest({"state": state, "seconds": np.zeros(())})
        if restored is not None:
            done, tree = restored
            # Copies, because the state is donated and the checkpoint's memory is not ours.
            state = data_parallel.replicate(jax.tree.map(jnp.array, tree["state"]), mesh)
            seconds_before = float(tree["seconds"])
            if unreadable.is_file():
                found = workdir.read_json(unreadable)
                images.problems.update({int(index): reason for index, reason in found.items()})
        start, points = time.monotonic(), SavePoints(save_minutes)
        losses = _Losses(plan, done, log, f"teacher {arch}")
        waiting: collections.deque[tuple[int, jax.Array]] = collections.deque()
        with Progress(plan.steps, f"training {arch}", unit="steps", done=done) as bar:

            def settle(ahead: int) -> None:
                """Waits for all calls but the `ahead` latest, and counts them."""
                while len(waiting) > ahead:
                    count, values = waiting.popleft()
                    losses.append(np.asarray(values)[:count])
                    bar.advance(count, loss=losses.latest)

            for pool, steps in _calls(images, plan, seed, done, mesh):
                state, values = program(state, pool, steps, key, moments)
                done += int(steps.count)
                waiting.append((int(steps.count), values))
                settle(CALLS_AHEAD)
                if points.is_due or done == plan.steps:  # the test to come saves nothing
                    settle(0)
                    if images.problems:
                        workdir.write_json(unreadable, images.problems)
                    spent = seconds_before + time.monotonic() - start
                    checkpoints.save(done, {"state": state, "seconds": np.asarray(spent)})
                    points.saved()
            settle(0)
    return state.trained, seconds_before


class _Plan:
    """Which images each step takes, at which learning rate."""

    def __init__(self, recipe: Recipe, images: int):
        self.recipe, self.images = recipe, images
        self.steps_per_epoch = images // recipe.batch_size
        self.steps = recipe.epochs * self.steps_per_epoch
        self._warmup_steps = round(recipe.warmup_epochs * self.steps_per_epoch)

    def learning_rate(self, step: int) -> float:
        rate = self.recipe.learning_rate
        return training.warmup_cosine(rate, step, self.steps, self._warmup_steps)

    def epochs(self, seed: int, first: int) -> Iterator[Int64[np.ndarray, "n b"]]:
        """Yields the positions of each step's images, epoch by epoch, from step `first` on."""
        for epoch in range(first // self.steps_per_epoch, self.recipe.epochs):
            key = stream(seed, "squeeze", "order", epoch)
            order = np.asarray(jax.random.permutation(key, self.images))
            whole = self.steps_per_epoch * self.recipe.batch_size
            rows = order[:whole].reshape(self.steps_per_epoch, self.recipe.batch_size)
            yield rows[max(0, first - epoch * self.steps_per_epoch) :]


class _Losses:
    """The losses so far; each epoch that is whole goes to the log, if it is finite."""

    def __init__(self, plan: _Plan, done: int, log: MetricsLog, who: str):
        self._plan, self._log, self._who = plan, log, who
        self._done = done
        self._epoch: list[float] = []

    @property
    def latest(self) -> float:
        return self._epoch[-1] if self._epoch else math.nan

    def append(self, values: np.ndarray) -> None:
        """Counts the losses of the next steps; raises `InputError` for an epoch that diverges."""
        for value in values.tolist():
            if self._done % self._plan.steps_per_epoch == 0:
                self._epoch = []
            self._epoch.append(value)
            self._done += 1
            if self._done % self._plan.steps_per_epoch == 0:
                self._finish_epoch()

    def _finish_epoch(self) -> None:
        recipe, epoch = self._plan.recipe, self._done // self._plan.steps_per_epoch
        loss = math.fsum(self._epoch) / len(self._epoch) if self._epoch else math.nan
        if not math.isfinite(loss):
            raise InputError(
                f"{self._who}: the loss became {loss} in epoch {epoch} of {recipe.epochs}; "
                f"expected a smaller teacher.squeeze.learning_rate than {recipe.learning_rate}"
            )
        rate = self._plan.learning_rate(self._done - 1)
        self._log.write("squeeze", epoch=epoch, loss=loss, learning_rate=rate)


def _calls(
    images: CroppedImages, plan: _Plan, seed: int, first: int, mesh: Mesh | None
) -> Iterator[tuple[programs.Pool, programs.Steps]]:
    """Yields the calls of the program from step `first` on, all of one shape."""
    if images.is_held:
        pool = programs.Pool(jnp.asarray(images.held()), jnp.asarray(images.labels))
        pool = data_parallel.replicate(pool, mesh)
        at_once = programs.steps_per_call()
        rows = itertools.chain.from_iterable(plan.epochs(seed, first))
        while order := list(itertools.islice(rows, at_once)):
            yield pool, _steps(plan, order, first, at_once)
            first += len(order)
        return
    size = plan.recipe.batch_size
    for order in plan.epochs(seed, first):
        for batch in images.batches(order.reshape(-1), size):
            pool = programs.Pool(jnp.asarray(batch.images), jnp.asarray(batch.labels))
            pool = data_parallel.replicate(pool, mesh)
            yield pool, _steps(plan, [_readable_rows(batch)], first, 1)
            first += 1


def _readable_rows(batch: Batch) -> Int64[np.ndarray, " b"]:
    """Each row of a batch, or the first that can be read for one that cannot."""
    readable = batch.labels != UNREADABLE
    if not readable.any():
        raise InputError(f"teacher: no image of a batch can be read: {batch.problems[0][1]}")
    return np.where(readable, np.arange(len(readable)), readable.argmax())


def _steps(
    plan: _Plan, order: list[Int64[np.ndarray, " b"]], first: int, at_once: int
) -> programs.Steps:
    """What the program needs to know of some steps, filled up to `at_once` of them."""
    numbers = range(first, first + len(order))
    rates = [plan.learning_rate(step) for step in numbers]
    weights = [training.average_weight(plan.recipe.average_decay, step) for step in numbers]
    return programs.Steps.of(order, first, rates, weights, at_once)
