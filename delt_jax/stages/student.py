"""Students trained from scratch on a small set with soft, hard or stored labels, and tested."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float, Int, Key, UInt8

from delt_jax.core import data_parallel, programs, training
from delt_jax.core.augment.stored_views import StoredLabels, cut_out
from delt_jax.core.augment.views import Statistics
from delt_jax.core.compiling import built_once
from delt_jax.errors import InputError
from delt_jax.export.stored_labels import LabelFiles
from delt_jax.models import registry
from delt_jax.models.network import Network
from delt_jax.runtime import interruption, save_points
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.streams import stream
from delt_jax.stages import device_pool
from delt_jax.stages.cropped_images import Accuracy, CroppedImages, Scope, measure_accuracy
from delt_jax.stages.protocol import Protocol
from delt_jax.stages.students_under_way import Curve, UnderWay


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained student: its variables, its curve, its accuracy per class after the last epoch.

    The variables are their moving average where the protocol keeps one; it is what is tested.
    """

    variables: dict
    curve: Curve
    per_class: Float[np.ndarray, " k"]


class LabelledImages(NamedTuple):
    """A set on the host; the labels are not wanted where a teacher labels or has labelled.

    `stored` is what it said of the views of an epoch.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int[np.ndarray, " n"] | None = None
    stored: StoredLabels | None = None

    def at(self, chosen: Int[np.ndarray, " b"]) -> "LabelledImages":
        """The images at these positions; after them those that stored views paste into them."""
        stored = None
        if self.stored is not None:
            chosen, views = cut_out(self.stored.views, chosen)
            stored = StoredLabels(views, self.stored.logits[chosen])
        labels = None if self.labels is None else self.labels[chosen]
        return LabelledImages(self.images[chosen], labels, stored)


@dataclasses.dataclass(frozen=True)
class _Seeds:
    """The random streams of students that train together; one student has no axis of seeds.

    Attributes:
      seeds: of each.
      offsets: where each one's set begins in the pool.
      size: of each set.
      stored: labels of the one set that they share; they decide its order, too.
    """

    seeds: Sequence[int]
    offsets: Sequence[int]
    size: int
    stored: LabelFiles | None = None

    def keys(self, epoch: int) -> Key[jax.Array, "*seeds"]:
        """Of an epoch's views and mixes, and of dropout."""
        keys = [jax.random.fold_in(stream(seed, "student", "views"), epoch) for seed in self.seeds]
        return keys[0] if len(keys) == 1 else jnp.stack(keys)

    def shown(self, epoch: int) -> tuple[Int[np.ndarray, "*seeds n"], StoredLabels | None]:
        """The order of an epoch's images, as positions in the pool; what is stored of them."""
        if self.stored is not None:
            # Fewer epochs than the student's are gone through again and again.
            order, labels = self.stored.read(epoch % self.stored.epochs)
            return (order if len(self.seeds) == 1 else np.stack([order] * len(self.seeds))), labels
        orders = [
            offset
            + np.asarray(jax.random.permutation(stream(seed, "student", "order", epoch), self.size))
            for seed, offset in zip(self.seeds, self.offsets, strict=True)
        ]
        return (orders[0] if len(orders) == 1 else np.stack(orders)), None


class StudentTrainer:
    """Trains students of one architecture and protocol; the programs are compiled once for all.

    The devices of this process share every batch; see `delt_jax.core.data_parallel`.

    Args:
      student: architecture.
      teacher: the labeller, which always sees images normalised with its own statistics; it does
        not label where the protocol says hard or stored labels.
      protocol: how to train.
      image_size: side of the images in pixels.
    """

    def __init__(self, student: str, teacher: Network, protocol: Protocol, image_size: int):
        self.module = module = registry.create(student, teacher.num_classes, image_size)
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
        self._init = _initialiser(module, image_size, optimizer, averaged)
        self._program = functools.partial(
            programs.student_program,
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
        save_minutes: float = save_points.MINUTES,
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
          save_minutes: between two checkpoints.

        Raises:
          InputError: where the loss is no longer finite.
        """
        (trained,) = self.train_together(
            [LabelledImages(images, labels)],
            [seed],
            test,
            checkpoints,
            lambda epoch, losses, top1: on_epoch(epoch, float(losses[0]), float(top1[0])),
            save_minutes=save_minutes,
        )
        return trained

    def train_together(
        self,
        sets: Sequence[LabelledImages],
        seeds: Sequence[int],
        test: CroppedImages,
        checkpoints: pathlib.Path,
        on_epoch: Callable[[int, Any, Any], Any] = lambda epoch, losses, top1: None,
        scope: Scope | None = None,
        stored: LabelFiles | None = None,
        save_minutes: float = save_points.MINUTES,
    ) -> list[Trained]:
        """Trains students of several seeds in one program: to rounding, those of `train`.

        Args:
          sets: of each student; of one size. What several share is kept once.
          seeds: of each student.
          test: the test set.
          checkpoints: folder of the checkpoints of these students and of nothing else.
          on_epoch: called after each epoch with its number (from 0), the mean loss of each student,
            and their top-1 in percent (NaN where not tested).
          scope: see `test`.
          stored: the set's labels, where the protocol says so; all students then share order, views
            and mixes.
          save_minutes: between two checkpoints.

        Returns:
          The students, in the order of the seeds; `Curve.seconds` are shared out among them.

        Raises:
          InputError: where the loss is no longer finite.
        """
        protocol, count = self.protocol, len(seeds)
        data, offsets = _joined(sets, with_labels=protocol.labels == "hard")
        runs = _Seeds(seeds, offsets, len(sets[0].images), stored)
        pool = None
        if device_pool.lies_on_device(data.images.nbytes):
            pool = self._on_device(data)
        per_class = np.full((count, len(test.class_names)), np.nan)
        with (
            UnderWay(
                data_parallel.replicate(self._fresh_state(seeds), self._mesh),
                np.diff([*range(0, runs.size, protocol.batch_size), runs.size]),
                count,
                protocol.epochs,
                checkpoints,
                save_minutes,
            ) as way,
            interruption.held_back(),
        ):
            way.restore(lambda state: data_parallel.replicate(state, self._mesh))
            curves = way.curves
            for epoch in range(way.epoch, protocol.epochs):
                losses = self._train_epoch(way, pool, data, runs, epoch)
                for seed, loss in zip(seeds, losses, strict=True):
                    if not math.isfinite(loss):
                        raise InputError(
                            f"student {self.student}, seed {seed}: the loss became {loss} in epoch "
                            f"{epoch + 1}; expected a smaller evaluate.learning_rate than "
                            f"{protocol.learning_rate}"
                        )
                curves.loss[:, epoch] = losses
                if protocol.is_tested(epoch):
                    for place, variables in enumerate(_unstacked(way.state.trained, count)):
                        accuracy = self.test(variables, test, scope, lambda _: way.pause())
                        curves.top1[place, epoch] = accuracy.top1
                        per_class[place] = accuracy.per_class
                curves.seconds[:, epoch] = way.seconds / count
                on_epoch(epoch, losses, curves.top1[:, epoch])
        return [
            Trained(
                variables,
                Curve(curves.loss[place], curves.top1[place], curves.seconds[place]),
                per_class[place],
            )
            for place, variables in enumerate(_unstacked(way.state.trained, count))
        ]

    def test(
        self,
        variables: dict,
        test: CroppedImages,
        scope: Scope | None = None,
        advance: Callable[[int], Any] = lambda count: None,
    ) -> Accuracy:
        """Accuracy of a student on the test set, or on the classes of a scope."""
        return measure_accuracy(
            lambda images: self._logits(variables, images, self._statistics),
            test,
            advance=advance,
            scope=scope,
        )

    def _fresh_state(self, seeds: Sequence[int]) -> training.TrainState:
        states = [self._init(stream(seed, "student", "init")) for seed in seeds]
        if len(states) == 1:
            return states[0]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def _on_device(self, data: LabelledImages) -> programs.Pool:
        return data_parallel.replicate(programs.Pool(*jax.tree.map(jnp.asarray, data)), self._mesh)

    def _train_epoch(
        self,
        way: UnderWay,
        pool: programs.Pool | None,
        data: LabelledImages,
        runs: _Seeds,
        epoch: int,
    ) -> Float[np.ndarray, " seeds"]:
        """One pass in a new order, or its rest, the ragged last batch included; mean losses."""
        program = self._program(together=len(runs.seeds) > 1)
        key = runs.keys(epoch)
        order, stored = runs.shown(epoch)
        if pool is None:
            data = data._replace(stored=stored)
        elif stored is not None:
            stored = data_parallel.replicate(jax.tree.map(jnp.asarray, stored), self._mesh)
            pool = pool._replace(stored=stored)
        for chosen, steps in self._calls(pool, data, order, epoch, way.done):
            state, losses = program(way.state, chosen, steps, key, self._statistics, self._labeller)
            way.step(state, losses, int(steps.count))
        return way.mean_losses()

    def _calls(
        self,
        pool: programs.Pool | None,
        data: LabelledImages,
        order: Int[np.ndarray, "*seeds n"],
        epoch: int,
        done: int,
    ) -> Iterator[tuple[programs.Pool, programs.Steps]]:
        """Yields the calls of an epoch; its ragged last batch is one of its own.

        Those of the `done` steps, counted over all epochs, are left out.
        """
        protocol, size = self.protocol, order.shape[-1]
        batch_size = protocol.batch_size
        rows = [order[..., place : place + batch_size] for place in range(0, size, batch_size)]
        skipped = max(done - epoch * len(rows), 0)
        rate = training.student_learning_rate(
            protocol.learning_rate, epoch, protocol.epochs, protocol.cosine_stretch
        )

        def steps(part: list[np.ndarray], first: int, at_once: int = 1) -> programs.Steps:
            """Those of `part`, which begins with step `first` of the epoch."""
            number = epoch * len(rows) + first
            numbers = range(number, number + len(part))
            weights = [training.average_weight(protocol.average_decay, n) for n in numbers]
            return programs.Steps.of(part, first, [rate] * len(part), weights, at_once)

        if pool is None:
            for number, row in enumerate(rows[skipped:], skipped):
                positions = np.arange(row.size).reshape(row.shape)
                yield self._on_device(data.at(row.reshape(-1))), steps([positions], number)
            return
        whole = size // batch_size
        at_once = max(1, min(programs.steps_per_call(), whole))
        for first in range(min(skipped, whole), whole, at_once):
            part = rows[first : min(first + at_once, whole)]
            yield pool, steps(part, first, at_once)
        if max(whole, skipped) < len(rows):
            yield pool, steps(rows[whole:], whole)


@built_once
def _initialiser(
    module: nn.Module, image_size: int, optimizer: optax.GradientTransformation, averaged: bool
) -> Callable[[Key[jax.Array, ""]], training.TrainState]:
    return jax.jit(
        lambda key: training.create_state(
            optimizer, registry.initialise(module, image_size, key), averaged
        )
    )


def _joined(sets: Sequence[LabelledImages], with_labels: bool) -> tuple[LabelledImages, list[int]]:
    """All different sets, one after another, and where each student's begins."""
    different = list({id(one.images): one for one in sets}.values())
    starts = np.cumsum([0, *(len(one.images) for one in different)])
    offset_of = {id(one.images): int(start) for one, start in zip(different, starts)}
    offsets = [offset_of[id(one.images)] for one in sets]
    labels = None
    if with_labels:
        labels = np.concatenate([np.asarray(one.labels, np.int32) for one in different])
    images = different[0].images
    if len(different) > 1:
        images = np.concatenate([one.images for one in different])
    return LabelledImages(images, labels), offsets


def _unstacked(tree: Any, count: int) -> list[Any]:
    """The trees of several seeds that a tree with an axis of seeds holds; of one seed, itself."""
    if count == 1:
        return [tree]
    return [jax.tree.map(lambda leaf, place=place: leaf[place], tree) for place in range(count)]
