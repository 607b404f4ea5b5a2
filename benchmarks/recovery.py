"""The work of synthesis that is timed, done by the stage's own parts and by the authors' code."""

import collections
import dataclasses
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import turns
from configs import base
from delt_jax.core import packing, programs, rounds, schedule, synthesis
from delt_jax.data import specs
from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.runtime.mesh import device_mesh
from delt_jax.stages import matching
from delt_jax.stages.synthesize import STEPS_PER_CALL

ALL = "all"  # the key of a step with constant iterations, in which all images are active


@dataclasses.dataclass(frozen=True)
class Work:
    """What is synthesised.

    Attributes:
      arch: the teacher's architecture.
      size: side of the images in pixels.
      images: of a class batch.
      ipc: images per class.
      classes: logits of the teacher.
      dtype: of our activations; theirs are float32.
    """

    arch: str
    size: int
    images: int
    ipc: int
    classes: int = 10
    dtype: str = "float32"


WORKS = {
    "cifar10": Work("cifar_resnet20", 32, images=100, ipc=10),
    "resnet18-32": Work("resnet18_small", 32, images=50, ipc=50),
    "resnet18-224": Work("resnet18", 224, images=10, ipc=10),
}


class Recovery:
    """Our synthesis of one kind of work.

    Args:
      work: what is synthesised.
      weights: file of the teacher's; None: random ones.
      devices: over which class batches are split; 0: one.
    """

    def __init__(self, work: Work, weights: pathlib.Path | None = None, devices: int = 0):
        self._classes = math.ceil(work.images / work.ipc)  # of one class batch
        if self._classes > work.classes:
            raise InputError(
                f"--classes {work.classes}: {work.images} images at IPC {work.ipc} need at least "
                f"{self._classes}"
            )
        self.work = work
        self.module = registry.create(work.arch, work.classes, work.size)
        if weights:
            state_dict = torch_weights.read_state_dict(weights)
            self.variables = torch_weights.from_state_dict(
                self.module, work.size, state_dict, str(weights)
            )
        else:
            self.variables = registry.initialise(self.module, work.size, jax.random.key(0))
        self._prepared = matching.prepared(self.variables)
        self._mesh: Mesh | None = device_mesh(rounds.CLASS_BATCHES, devices) if devices else None
        self.devices = max(devices, 1)
        spec = specs.get_spec("cifar10")  # as theirs is told; times do not depend on it
        mean, std = np.asarray(spec.mean), np.asarray(spec.std)
        self.pixels = np.random.default_rng(0).uniform(0, 1, (work.images, work.size, work.size, 3))
        self.images = ((self.pixels - mean) / std).astype(np.float32)
        self._statistics = (spec.mean, spec.std)
        self.steps_per_call = programs.steps_per_call(STEPS_PER_CALL)

    def class_batch(self, plan: schedule.Schedule) -> schedule.ClassBatch:
        """The slots of one class batch, and when each joins."""
        return schedule.class_batches(plan, self._classes, self.work.images)[0]

    def program(self, mesh: Mesh | None = None) -> rounds.Program:
        """The steps as the stage has them, with nothing compiled.

        Args:
          mesh: of other devices than those that class batches are split over here.
        """
        options: Any = base.get_base().synthesis
        options.compute_dtype = self.work.dtype
        method = matching.method(
            self.module, self.work.size, self.variables, self._statistics, options
        )
        return rounds.Program(method, mesh or self._mesh, self.steps_per_call)

    def pack(self, plan: schedule.Schedule, class_batches: int, devices: int) -> packing.Pack:
        """Class batches side by side on each device, all alike."""
        width = class_batches * devices
        return packing.make_packs([self.class_batch(plan)] * width, width, devices)[0]

    def compiled(
        self, mesh: Mesh, plan: schedule.Schedule, class_batches: int
    ) -> jax.stages.Compiled:
        """A step with all images active, for a mesh whose devices may be elsewhere."""
        pack = self.pack(plan, class_batches, mesh.size)
        slots = pack.labels.shape[1]
        return self.program(mesh).compile(self._prepared, pack, self.work.size, slots)

    def run(
        self, program: rounds.Program, plan: schedule.Schedule, class_batches: int = 1
    ) -> Iterator[tuple[int, int, float]]:
        """One synthesis from its start.

        Args:
          program: from `program`.
          plan: the schedule.
          class_batches: side by side on each device.

        Yields:
          Round, steps and seconds of each call, the reading of its losses included.
        """
        batch, pack = self.class_batch(plan), self.pack(plan, class_batches, self.devices)
        chunks = rounds.optimise(
            program,
            self._prepared,
            pack,
            synthesis.initial_state(
                jnp.asarray(pack.stack([self.images[batch.slots]] * len(pack.batches)))
            ),
            pack.keys(jax.random.key(0)),
            schedule.learning_rates(0.25, pack.iterations),
            schedule.min_crop_scales("cosine", 1.0, pack.iterations),
        )
        then = time.perf_counter()
        for chunk in chunks:
            float(chunk.metrics["loss"].sum())  # theirs reads the loss of every step, too
            now = time.perf_counter()
            yield chunk.round, chunk.next - chunk.first, now - then
            then = now


def our_side(
    recovery: Recovery,
    program: rounds.Program,
    plans: list[schedule.Schedule],
    class_batches: int = 1,
) -> turns.Side:
    """A turn of ours over short schedules: seconds of a step by active images."""

    def turn() -> turns.Seconds:
        seconds = collections.defaultdict(list)
        for plan in plans:
            batch, last = recovery.class_batch(plan), None
            for r, steps, taken in recovery.run(program, plan, class_batches):
                if r == last:  # the first call of a round may wait for the compiler
                    seconds[batch.prefix(r) if plan.early_late else ALL].append(taken / steps)
                last = r
        return seconds

    return turn


def their_side(
    recovery: Recovery, checkout: pathlib.Path, threads: int, plans: list[schedule.Schedule]
) -> turns.Side:
    """A turn of the authors' code over the same schedules."""
    import torch

    from benchmarks import authors  # torch only where it is asked for

    torch.set_num_threads(threads)
    theirs, _ = authors.load(checkout)
    model = authors.network(recovery.work.arch, torch_weights.to_state_dict(recovery.variables))
    labels = np.arange(recovery.work.images) // recovery.work.ipc
    run = authors.recovery_timer(theirs, model, recovery.pixels, labels, recovery.work.ipc)

    def turn() -> turns.Seconds:
        seconds = collections.defaultdict(list)
        for plan in plans:
            batch = recovery.class_batch(plan)
            times = run(plan.rounds, plan.round_iterations, plan.early_late)
            for r, of_round in enumerate(np.split(np.asarray(times), plan.rounds)):
                seconds[batch.prefix(r) if plan.early_late else ALL] += of_round[1:].tolist()
        return seconds

    return turn


def short_plans(work: Work, full: schedule.Schedule, length: int) -> list[schedule.Schedule]:
    """The rounds of a schedule, `length` iterations each, and one round of constant iterations."""
    return [
        schedule.Schedule(work.ipc, full.rounds * length, length),
        schedule.Schedule(work.ipc, length, length, early_late=False),
    ]
