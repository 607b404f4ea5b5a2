"""One student: trained from scratch on a small set with soft or hard labels, and tested."""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from delt_jax.core import data_parallel, programs, training
from delt_jax.core.augment.views import Statistics
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import Network
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.streams import stream
from delt_jax.stages.cropped_images import CroppedImages, measure_accuracy
from delt_jax.stages.protocol import Protocol

SAVE_SECONDS = 60.0  # between two checkpoints, which are taken at the end of an epoch
POOL_BYTES = 2 << 30  # a set that is no larger lies on the device; else batch follows batch there


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """What happened, epoch by epoch; arrays `[epochs]`.

    Attributes:
      loss: mean over the epoch's steps.
      top1: after the epoch, in percent; NaN where the student was not tested.
      seconds: from the start to the end of the epoch, tests and interrupted runs included.
    """

    loss: Float[np.ndarray, " epochs"]
    top1: Float[np.ndarray, " epochs"]
    seconds: Float[np.ndarray, " epochs"]

    def tested(self) -> list[tuple[int, float]]:
        """(epoch from 1, top-1) of every test."""
        epochs = np.flatnonzero(~np.isnan(self.top1))
        return [(int(epoch) + 1, float(self.top1[epoch])) for epoch in epochs]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained student: its variables, its curve, its accuracy per class after the last epoch.

    The variables are their moving average where the protocol keeps one; it is what is tested.
    """

    variables: dict
    curve: Curve
    per_class: Float[np.ndarray, " k"]


class StudentTrainer:
    """Trains students of one architecture and protocol; the programs are compiled once for all.

    The devices of this process share every batch; see `delt_jax.core.data_parallel`.

    Args:
      student: architecture.
      teacher: the labeller, which always sees images normalised with its own statistics; it does
        not label where the protocol says hard labels.
      protocol: how to train.
      image_size: side of the images in pixels.
    """

    def __init__(self, student: str, teacher: Network, protocol: Protocol, image_size: int):
        module = registry.create(student, teacher.num_classes, image_size)
        self.student, self.protocol = student, protocol
        self._mesh = device_mesh(data_parallel.IMAGES)
        self._labeller = None
        if protocol.labels == "soft":
            statistics = Statistics.of(teacher.mean, teacher.std)
            labeller = programs.Labeller(teacher.variables, statistics)
            self._labeller = data_parallel.replicate(labeller, self._mesh)
        self._statistics = Statistics.of(protocol.mean, protocol.std)
        optimizer = protocol.make_optimizer()
        averaged = protocol.average_decay > 0
        self._init = jax.jit(
            lambda key: training.create_state(
                optimizer, registry.initialise(module, image_size, key), averaged
            )
        )
        self._program = programs.student_program(
            module.apply,
            teacher.module.apply if protocol.labels == "soft" else None,
            optimizer,
            protocol.views,
            temperature=protocol.temperature,
            double_bn_update=protocol.double_bn_update,
            bn_momenta=registry.batch_norm_momenta(module, image_size),
            compute_dtype=programs.compute_dtype(protocol.compute_dtype),
            mesh=self._mesh,
            batch_norm=protocol.batch_norm,
        )
        self._logits = programs.inference_program(module.apply, self._mesh)

    def train(
        self,
        images: UInt8[np.ndarray, "n s s 3"],
        seed: int,
        test: CroppedImages,
        checkpoints: pathlib.Path,
        on_epoch: Callable[[int, float, float], Any] = lambda epoch, loss, top1: None,
        *,
        labels: Int[np.ndarray, " n"] | None = None,
    ) -> Trained:
        """Trains one student; goes on from the latest of its checkpoints.

        The seed alone decides initial weights, order, views and mixes, so students of one seed on
        several sets of the same size differ by the sets only.

        Args:
          images: the set.
          seed: of this student.
          test: the test set.
          checkpoints: folder of this student's checkpoints and of nothing else.
          on_epoch: called after each epoch with its number (from 0), the mean loss, and the top-1
            in percent (NaN where not tested).
          labels: class of each image; students of hard labels need them.

        Raises:
          InputError: where the loss is no longer finite.
        """
        protocol = self.protocol
        data = programs.Pool(images)
        if protocol.labels == "hard":
            assert labels is not None
            data = programs.Pool(images, np.asarray(labels, np.int32))
        state = data_parallel.replicate(self._init(stream(seed, "student", "init")), self._mesh)
        pool = None
        if images.nbytes <= POOL_BYTES:
            pool = data_parallel.replicate(jax.tree.map(jnp.asarray, data), self._mesh)
        key_views = stream(seed, "student", "views")
        curve = Curve(*(np.full(protocol.epochs, np.nan) for _ in range(3)))
        per_class = np.full(len(test.class_names), np.nan)
        first, spent = 0, 0.0
        with Checkpointer(checkpoints) as saved:
            restored = saved.restore_latest({"state": state, "curve": dataclasses.asdict(curve)})
            if restored is not None:
                first, tree = restored
                # Copies, because the state is donated and the checkpoint's memory is not ours.
                state = jax.tree.map(jnp.array, tree["state"])
                state = data_parallel.replicate(state, self._mesh)
                curve = Curve(**{name: np.array(values) for name, values in tree["curve"].items()})
                spent = float(curve.seconds[first - 1])
            start = last_save = time.monotonic()
            for epoch in range(first, protocol.epochs):
                state, loss = self._train_epoch(state, pool, data, seed, epoch, key_views)
                if not math.isfinite(loss):
                    raise InputError(
                        f"student {self.student}, seed {seed}: the loss became {loss} in epoch "
                        f"{epoch + 1}; expected a smaller evaluate.learning_rate than "
                        f"{protocol.learning_rate}"
                    )
                curve.loss[epoch] = loss
                if protocol.is_tested(epoch):
                    accuracy = self.test(state.trained, test)
                    curve.top1[epoch], per_class = accuracy.top1, accuracy.per_class
                curve.seconds[epoch] = spent + time.monotonic() - start
                on_epoch(epoch, loss, float(curve.top1[epoch]))
                last_epoch = epoch == protocol.epochs - 1
                if time.monotonic() - last_save >= SAVE_SECONDS and not last_epoch:
                    saved.save(epoch + 1, {"state": state, "curve": dataclasses.asdict(curve)})
                    last_save = time.monotonic()
        return Trained(state.trained, curve, per_class)

    def test(self, variables: dict, test: CroppedImages):
        """Accuracy of a student on the test set."""
        return measure_accuracy(
            lambda images: self._logits(variables, images, self._statistics), test
        )

    def _train_epoch(
        self,
        state: training.TrainState,
        pool: programs.Pool | None,
        data: programs.Pool,
        seed: int,
        epoch: int,
        key_views: jax.Array,
    ) -> tuple[training.TrainState, float]:
        """One pass in a new order, the ragged last batch included; returns the mean loss."""
        protocol = self.protocol
        rate = training.student_learning_rate(
            protocol.learning_rate, epoch, protocol.epochs, protocol.cosine_stretch
        )
        order = jax.random.permutation(stream(seed, "student", "order", epoch), len(data.images))
        key_epoch = jax.random.fold_in(key_views, epoch)
        done = []
        for chosen, steps in self._calls(pool, data, np.asarray(order), rate, epoch):
            state, losses = self._program(
                state, chosen, steps, key_epoch, self._statistics, self._labeller
            )
            done.append((losses, steps.count, steps.order.shape[1]))
        losses = np.concatenate([np.asarray(losses)[:count] for losses, count, _ in done])
        sizes = np.repeat([size for *_, size in done], [count for _, count, _ in done])
        return state, float(np.average(losses, weights=sizes))

    def _calls(
        self,
        pool: programs.Pool | None,
        data: programs.Pool,
        order: Int[np.ndarray, " n"],
        rate: float,
        epoch: int,
    ) -> Iterator[tuple[programs.Pool, programs.Steps]]:
        """Yields the calls of an epoch; its ragged last batch is one of its own."""
        batch_size = self.protocol.batch_size
        rows = [order[place : place + batch_size] for place in range(0, len(order), batch_size)]

        def steps(part: list[np.ndarray], first: int, at_once: int = 1) -> programs.Steps:
            """Those of `part`, which begins with step `first` of the epoch."""
            done = epoch * len(rows) + first
            numbers = range(done, done + len(part))
            weights = [training.average_weight(self.protocol.average_decay, n) for n in numbers]
            return programs.Steps.of(part, first, [rate] * len(part), weights, at_once)

        if pool is None:
            for number, row in enumerate(rows):
                batch = jax.tree.map(lambda values, row=row: jnp.asarray(values[row]), data)
                batch = data_parallel.replicate(batch, self._mesh)
                yield batch, steps([np.arange(len(row))], number)
            return
        whole = len(order) // batch_size
        at_once = max(1, min(programs.steps_per_call(), whole))
        for first in range(0, whole, at_once):
            part = rows[first : min(first + at_once, whole)]
            yield pool, steps(part, first, at_once)
        if whole < len(rows):
            yield pool, steps(rows[whole:], whole)


def as_json(numbers: Any) -> Any:
    """Numbers as JSON holds them: NaN becomes null."""
    return json.loads(json.dumps(np.asarray(numbers).tolist()).replace("NaN", "null"))
