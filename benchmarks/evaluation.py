"""Measures the training of students as the evaluate stage does it: pace, compiling, memory, floor.

    python -m benchmarks.evaluation --work=cifar10 [--reference=PATH/TO/DELT] [--json=FILE]

A step is one batch with all that belongs to it: views (RandAugment, random resized crop, flip),
CutMix, the teacher's labels, the student's gradient, AdamW. With `--reference` the
authors' own training runs beside it, turn by turn: their loop, their loader, torchvision's and
timm's views; a turn is an epoch of `--steps` batches, of which the median counts. Theirs has one
forward pass of the student more, for BatchNorm's second update, which ours computes from the first.

The *floor* of a step is its arithmetic alone: the teacher's forward pass, and three times the
student's (forward, gradient of the activations, gradient of the weights), over the rate of a plain
matrix product, measured in the same run. What views cost comes on top.

The images are noise and the weights random: times depend on neither.
"""

import argparse
import dataclasses
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command, figures, machine, tables, turns
from benchmarks.turns import OURS, THEIRS
from delt_jax.core import programs, training
from delt_jax.core.augment.views import Statistics, StudentViews
from delt_jax.data.specs import IMAGENET_MEAN, IMAGENET_STD
from delt_jax.models import registry, torch_weights

STEP = "step"


@dataclasses.dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
      arch: of the student, and of its teacher.
      size: side of the images in pixels.
      batch: images of a step.
      classes: of the labels.
      magnitude: of RandAugment, as published for such data.
      operations: of RandAugment.
      dtype: of our activations; theirs are float32.
    """

    arch: str
    size: int
    batch: int
    classes: int = 10
    magnitude: int = 5
    operations: int = 4
    dtype: str = "float32"


WORKS = {
    "cifar10": Work("cifar_resnet20", 32, batch=50),
    "resnet18-32": Work("resnet18_small", 32, batch=50),
    "resnet18-224": Work("resnet18", 224, batch=10, magnitude=6, operations=2),
}


class Training:
    """Our training of a student of one kind of work."""

    def __init__(self, work: Work, batches: int):
        self.work = work
        self.module = registry.create(work.arch, work.classes, work.size)
        self.variables = registry.initialise(self.module, work.size, jax.random.key(0))
        shape = (batches * work.batch, work.size, work.size, 3)
        self.images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        self.labels = np.arange(len(self.images)) % work.classes
        self._optimizer = training.adamw()
        views = StudentViews(randaugment_magnitude=work.magnitude, randaugment_ops=work.operations)
        self._program = programs.student_program(
            self.module.apply,
            self.module.apply,
            self._optimizer,
            views,
            bn_momenta=registry.batch_norm_momenta(self.module, work.size),
            compute_dtype=programs.compute_dtype(work.dtype),
        )
        self._statistics = Statistics(jnp.array(IMAGENET_MEAN), jnp.array(IMAGENET_STD))
        self._labeller = programs.Labeller(self.variables, self._statistics)
        self._pool = programs.Pool(jnp.asarray(self.images))
        self.state = training.create_state(
            self._optimizer, jax.tree.map(jnp.copy, self.variables)
        )  # of copies, because the program donates it

    def run(self, steps: int) -> float:
        """Seconds per step of an epoch of `steps` batches, whose loss is read at its end."""
        batches = np.arange(len(self.images)).reshape(-1, self.work.batch)
        key, at_once, total = jax.random.key(0), programs.steps_per_call(), 0.0
        start = time.perf_counter()
        for first in range(0, steps, at_once):
            numbers = np.arange(first, min(first + at_once, steps))
            order, rates = batches[numbers % len(batches)], [1e-3] * len(numbers)
            now = programs.Steps.of(order, first, rates, at_once=at_once)  # pyright: ignore[reportArgumentType]
            self.state, losses = self._program(
                self.state, self._pool, now, key, self._statistics, self._labeller
            )
            total = total + losses.sum()
        float(total)
        return (time.perf_counter() - start) / steps


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Trains ours and, where they are asked for, theirs; times are in seconds."""
    work = chosen_work(args)
    ours = Training(work, args.steps)
    start = time.perf_counter()
    ours.run(1)
    first_step, memory = time.perf_counter() - start, machine.peak_memory()  # before torch
    sides: dict[str, turns.Side] = {OURS: lambda: {STEP: [ours.run(args.steps)]}}
    if args.reference:
        theirs = their_run(ours, args)
        theirs(args.steps)  # allocates, starts the workers
        sides[THEIRS] = lambda: {STEP: [theirs(args.steps)]}
    rates = machine.rates(work.dtype)
    medians = turns.take_turns(sides, args.turns)
    found = turns.compare(
        dict.fromkeys(sides, work.batch), {side: times[STEP] for side, times in medians.items()}
    )
    flops = 4 * work.batch * machine.forward_flops(ours.module, work.size)
    return {
        "machine": machine.describe("torch", "torchvision", "timm"),
        "work": dataclasses.asdict(work),
        "workers": args.workers,
        "counted_steps": args.steps,
        "turns": args.turns,
        "rates": rates,
        "student": {
            **found,
            "first_step_seconds": first_step,  # compiling
            "flops": flops,
            "floor_seconds": flops / rates["flops"],
            "matrix_share": flops / rates["flops"] / found["seconds"][OURS],
            "memory": memory,
        },
    }


def their_run(ours: Training, args: argparse.Namespace) -> Any:
    """The authors' training of the same student."""
    import torch

    from benchmarks import authors  # torch only where it is asked for

    torch.set_num_threads(args.threads)
    _, evaluation = authors.load(args.reference)
    state_dict = torch_weights.to_state_dict(ours.variables)
    work = ours.work
    return authors.student_timer(
        evaluation,
        authors.network(work.arch, state_dict),
        authors.network(work.arch, state_dict),
        ours.images,
        ours.labels,
        work.batch,
        f"rand-m{work.magnitude}-n{work.operations}-mstd1.0",
        args.workers,
    )


def chosen_work(args: argparse.Namespace) -> Work:
    """The work that `--work` names, with what other flags change about it."""
    changes = {name: getattr(args, name) for name in ("arch", "size", "batch", "classes", "dtype")}
    changes = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(WORKS[args.work], **changes)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser("evaluation", __doc__)
    flag = parser.add_argument
    flag("--work", choices=WORKS, default="cifar10", help="what is trained")
    flag("--arch", help="student's and teacher's, instead of the work's")
    flag("--size", type=int, help="side of the images in pixels, likewise")
    flag("--batch", type=int, help="images of a step, likewise")
    flag("--classes", type=int, help="of the labels, likewise")
    flag("--steps", type=int, default=20, help="of a turn")
    flag("--turns", type=int, default=5, help="of each side")
    flag(
        "--workers", type=int, help="of their loader; 0 on a CPU, else a process a core, at most 8"
    )
    args = parser.parse_args(arguments)
    if args.workers is None:
        args.workers = 0 if jax.default_backend() == "cpu" else min(os.cpu_count() or 1, 8)
    return args


def main() -> None:
    command.run(parse, measure, tables.evaluation, figures.evaluation)


if __name__ == "__main__":
    main()
