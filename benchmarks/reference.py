"""Times the authors' PyTorch code against ours, on the same work, in the same run, on the CPU.

    python -m benchmarks.reference --reference=PATH/TO/DELT [--weights=FILE] [--json=FILE]

The work is the paper's for CIFAR-10 at IPC 10: one class batch of 100 images of 32 x 32, a
ResNet-20 as teacher, EarlyLate in 8 rounds and constant iterations; then a ResNet-20 student at
batch 50, views and soft labels included. Short runs of the two take turns, so that a machine that
slows down slows both; the first step of a round (allocation, compilation) does not count; medians
are reported.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import authors
from delt_jax.core import packing, programs, schedule, synthesis, training
from delt_jax.core.augment.views import Statistics, StudentViews
from delt_jax.core.rounds import Program, optimise
from delt_jax.models import registry, torch_weights
from delt_jax.stages import matching

CLASSES, IPC, SIZE, ROUNDS = 10, 10, 32, 8
STUDENT_BATCH = 50  # the paper's at IPC 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # recover.py, get_mean_std
ARCH = "cifar_resnet20"


def our_recovery(variables: Any, pixels: np.ndarray) -> Callable[[int, int, bool], list[float]]:
    """Prepares our synthesis of the class batch, as the stage runs it on a CPU.

    Args:
      variables: of the teacher.
      pixels: initial images in [0, 1], float `[b, h, w, 3]`, class-major.

    Returns:
      `run(rounds, round_iterations, early_late)`: seconds of each iteration of one whole run.
    """
    module = registry.create(ARCH, CLASSES, SIZE)
    method = synthesis.Method(
        forward=matching.matching_forward(module),
        objective=matching.matching_objective(
            module, SIZE, variables, bn_weight=0.01, first_bn_multiplier=10.0
        ),
        draw_view=synthesis.view_drawer(
            SIZE, max_scale=1.0, flip_probability=0.5, jitter=0, per_image=False
        ),
        low=tuple(-m / s for m, s in zip(MEAN, STD, strict=True)),
        high=tuple((1 - m) / s for m, s in zip(MEAN, STD, strict=True)),
    )
    program = Program(method)
    images = ((pixels - MEAN) / STD).astype(np.float32)

    def run(rounds: int, round_iterations: int, early_late: bool) -> list[float]:
        plan = schedule.Schedule(IPC, rounds * round_iterations, round_iterations, early_late)
        (pack,) = packing.make_packs(schedule.class_batches(plan, CLASSES, len(images)), 1)
        chunks = optimise(
            program,
            variables,
            pack,
            synthesis.initial_state(jnp.asarray(pack.stack([images[pack.batches[0].slots]]))),
            pack.keys(jax.random.key(0)),
            schedule.learning_rates(0.25, pack.iterations),
            schedule.min_crop_scales("cosine", 1.0, pack.iterations),
        )
        ticks = [time.perf_counter()]
        for chunk in chunks:
            float(chunk.metrics["loss"].sum())  # theirs reads the loss of every step, too
            ticks.append(time.perf_counter())
        return np.diff(ticks).tolist()

    return run


def our_student(variables: Any, images: np.ndarray) -> Callable[[int], float]:
    """Prepares our training of a student.

    Args:
      variables: of the teacher and, to begin with, of the student.
      images: uint8 `[n, h, w, 3]`, n a multiple of the batch.

    Returns:
      `run(steps)`: seconds per step, views and soft labels included.
    """
    module = registry.create(ARCH, CLASSES, SIZE)
    optimizer = training.adamw()
    program = programs.student_program(module.apply, module.apply, optimizer, StudentViews())
    statistics = Statistics(jnp.array(authors.IMAGENET_MEAN), jnp.array(authors.IMAGENET_STD))
    labeller = programs.Labeller(variables, statistics)
    pool = programs.Pool(jnp.asarray(images))
    batches = np.arange(len(images)).reshape(-1, STUDENT_BATCH)

    def run(steps: int) -> float:
        fresh = jax.tree.map(np.array, variables)  # the program donates its state
        state = training.create_state(optimizer, jax.device_put(fresh))
        key = jax.random.key(0)
        start = time.perf_counter()
        for step in range(steps):
            now = programs.Steps.of([batches[step % len(batches)]], step, [1e-3])
            state, losses = program(state, pool, now, key, statistics, labeller)
            float(losses[0])
        return (time.perf_counter() - start) / steps

    return run


def by_active_count(seconds: list[float], counts: list[int]) -> dict[int, list[float]]:
    """Groups the seconds of a run's steps by active images; each round's first step is left out."""
    groups = collections.defaultdict(list)
    for rows, count in zip(np.split(np.array(seconds), len(counts)), counts, strict=True):
        groups[count] += rows[1:].tolist()
    return groups


def measure_recovery(recoveries: dict[str, Callable], steps: int, repeats: int) -> dict[str, Any]:
    """Runs both recoveries in turn.

    Args:
      recoveries: what runs "theirs" and "ours".
      steps: counted steps of a round.
      repeats: turns of each side.

    Returns:
      Medians by active images and for constant iterations, the mean over the EarlyLate schedule,
      and the share of the constant run's time that EarlyLate saves.
    """
    (batch,) = schedule.class_batches(schedule.Schedule(IPC, ROUNDS, 1), CLASSES, CLASSES * IPC)
    counts = [batch.prefix(r) for r in range(ROUNDS)]
    rounds = {side: collections.defaultdict(list) for side in recoveries}
    constant = {side: [] for side in recoveries}
    for turn in range(repeats + 1):  # turn 0 warms up: compilation, allocation
        for side, run in recoveries.items():
            by_count = by_active_count(run(ROUNDS, steps + 1, True), counts)
            whole = run(1, 2 * steps + 1, False)[1:]
            if turn:
                constant[side] += whole
                for count, seconds in by_count.items():
                    rounds[side][count] += seconds
    median = {
        side: {count: float(np.median(seconds)) for count, seconds in groups.items()}
        for side, groups in rounds.items()
    }
    mean = {side: float(np.mean([median[side][n] for n in counts])) for side in median}
    whole = {side: float(np.median(seconds)) for side, seconds in constant.items()}
    saved = {side: 1 - mean[side] / whole[side] for side in mean}
    return {
        "seconds_by_active": {n: _compare(*(median[side][n] for side in median)) for n in counts},
        "early_late": _compare(**mean),
        "constant": _compare(**whole),
        "saved": {"image_iterations": 1 - sum(counts) / (ROUNDS * CLASSES * IPC), **saved},
    }


def measure_student(students: dict[str, Callable], steps: int, repeats: int) -> dict[str, float]:
    """Trains both students in turn, `steps` steps a turn, and compares the median turns."""
    seconds = {side: [] for side in students}
    for turn in range(repeats + 1):
        for side, run in students.items():
            if turn:
                seconds[side].append(run(steps))
            else:
                run(2)
    return _compare(*(float(np.median(seconds[side])) for side in seconds))


def measure(checkout: pathlib.Path, weights: pathlib.Path | None, steps: int, repeats: int) -> dict:
    """Runs everything, with random weights if `weights` is None; times are in seconds."""
    recovery, evaluation = authors.load(checkout)
    pixels = np.random.default_rng(0).uniform(0, 1, (CLASSES * IPC, SIZE, SIZE, 3))
    labels = np.repeat(np.arange(CLASSES), IPC)
    images = (pixels * 255).astype(np.uint8)
    module = registry.create(ARCH, CLASSES, SIZE)
    if weights:
        state_dict = torch_weights.read_state_dict(weights)
        variables = torch_weights.from_state_dict(module, SIZE, state_dict, str(weights))
    else:
        variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
        state_dict = torch_weights.to_state_dict(variables)
    teacher, student = authors.resnet20(state_dict), authors.resnet20(state_dict)
    student_run = authors.student_timer(
        evaluation, authors.resnet20(state_dict), student, images, labels, STUDENT_BATCH
    )
    recoveries = {
        "theirs": authors.recovery_timer(recovery, teacher, pixels, labels, IPC),
        "ours": our_recovery(variables, pixels),
    }
    students = {"theirs": student_run, "ours": our_student(variables, images)}
    packages = ("jax", "torch", "torchvision", "timm")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "counted_steps": steps,
        "repeats": repeats,
        "recovery": measure_recovery(recoveries, steps, repeats),
        "student": measure_student(students, 10 * steps, repeats),
    }


def _compare(theirs: float, ours: float) -> dict[str, float]:
    return {"theirs": theirs, "ours": ours, "ratio": theirs / ours}


def _cpu() -> str:
    """The processor's name, where the system tells."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(result: dict) -> str:
    """The result as a table of text."""
    recovery = result["recovery"]
    rows = {f"recovery, {n} active": row for n, row in recovery["seconds_by_active"].items()}
    rows["recovery, EarlyLate (mean)"] = recovery["early_late"]
    rows["recovery, constant"] = recovery["constant"]
    rows["student"] = result["student"]
    lines = [f"{'seconds per step':28}{'theirs':>9}{'ours':>9}{'ratio':>7}"]
    for name, row in rows.items():
        lines.append(f"{name:28}{row['theirs']:9.4f}{row['ours']:9.4f}{row['ratio']:7.2f}")
    saved = recovery["saved"]
    lines.append(
        f"EarlyLate saves {saved['image_iterations']:.1%} of the image-iterations, "
        f"{saved['theirs']:.1%} of their time, {saved['ours']:.1%} of ours"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.reference")
    flag = parser.add_argument
    flag("--reference", type=pathlib.Path, required=True, help="a clone of VILA-Lab/DELT")
    flag("--weights", type=pathlib.Path, help="teacher's weights; otherwise random")
    flag("--steps", type=int, default=5, help="counted steps of each round and turn")
    flag("--repeats", type=int, default=5, help="turns of each side")
    flag("--threads", type=int, default=os.cpu_count(), help="torch's; JAX takes all cores")
    flag("--json", type=pathlib.Path, help="file for what was measured")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = measure(args.reference, args.weights, args.steps, args.repeats)
    print(table(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
