"""Measures synthesis as the stage runs it: pace, compiling, memory, what is left to win, scaling.

    python -m benchmarks.synthesis --work=resnet18-32 [--reference=PATH/TO/DELT] [--json=FILE]

Parts (`--parts`, comma-separated):

- `rounds`: seconds of a step and image-iterations per second with each number of active images of
  the EarlyLate schedule, and with all of them; with `--reference` beside the authors' own code,
  turn by turn. Median of the counted steps; the first call of a round is not counted.
- `early_late`: the whole schedule (`--schedule`), with EarlyLate and with constant iterations, each
  with nothing compiled before: wall clock, compiling included, and the share that is saved.
- `class_batches`, `devices`, `ipc`: the pace with all images as each of them grows. Without
  accelerators, devices are fake ones that share the cores, each count in a process of its own.
- `profile`: device time by kind of operation, all images active.

A step's *floor* is what its arithmetic alone would take: forward pass and gradient of the images
(not of the weights) are 2 x the forward FLOPs, as XLA counts them (`machine.forward_flops`), over
the rate of a plain matrix product in the same dtype, measured in the same run. `matrix_share` is
floor over measured. `bandwidth_share` is the bytes that XLA's cost analysis of the compiled step
says it accesses, over what a plain pass over memory moves in that time; where caches hold part of
it, it may exceed 1.

The images are noise and the weights random (or `--weights`): times depend on neither.
"""

import argparse
import collections
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks import figures, machine, profiles, turns
from benchmarks.turns import OURS, THEIRS
from delt_jax.core import packing, rounds, schedule, synthesis
from delt_jax.data import specs
from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.runtime.mesh import device_mesh
from delt_jax.stages import matching
from delt_jax.stages.synthesize import STEPS_PER_CALL

ALL = "all"  # the key of a step with constant iterations, in which all images are active
PROFILED_CALLS = 3


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
        if math.ceil(work.images / work.ipc) > work.classes:
            raise InputError(
                f"{work.images} images at IPC {work.ipc} are of "
                f"{math.ceil(work.images / work.ipc)} classes; expected at most --classes, "
                f"{work.classes}"
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
        self._devices = max(devices, 1)
        spec = specs.get_spec("cifar10")  # as theirs is told; times do not depend on it
        mean, std = np.asarray(spec.mean), np.asarray(spec.std)
        self.pixels = np.random.default_rng(0).uniform(0, 1, (work.images, work.size, work.size, 3))
        self.images = ((self.pixels - mean) / std).astype(np.float32)
        self._low, self._high = tuple(-mean / std), tuple((1 - mean) / std)
        self.steps_per_call = 1 if jax.default_backend() == "cpu" else STEPS_PER_CALL

    def class_batch(self, plan: schedule.Schedule) -> schedule.ClassBatch:
        """The slots of one class batch, and when each joins."""
        return schedule.class_batches(plan, self.work.classes, self.work.images)[0]

    def program(self) -> rounds.Program:
        """The steps as the stage has them, with nothing compiled."""
        dtype = None if self.work.dtype == "float32" else jnp.dtype(self.work.dtype)
        method = synthesis.Method(
            forward=matching.matching_forward(self.module, dtype),
            objective=matching.matching_objective(
                self.module,
                self.work.size,
                self.variables,
                bn_weight=0.01,
                first_bn_multiplier=10.0,
            ),
            draw_view=synthesis.view_drawer(
                self.work.size, max_scale=1.0, flip_probability=0.5, jitter=0, per_image=False
            ),
            low=self._low,
            high=self._high,
        )
        return rounds.Program(method, self._mesh, self.steps_per_call)

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
        width = class_batches * self._devices
        batch = self.class_batch(plan)
        (pack,) = packing.make_packs([batch] * width, width, self._devices)
        chunks = rounds.optimise(
            program,
            self._prepared,
            pack,
            synthesis.initial_state(jnp.asarray(pack.stack([self.images[batch.slots]] * width))),
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
    recovery: Recovery, checkout: pathlib.Path, plans: list[schedule.Schedule]
) -> turns.Side:
    """A turn of the authors' code over the same schedules."""
    from benchmarks import authors  # torch only where it is asked for

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


def measure_rounds(recovery: Recovery, args: argparse.Namespace, rates: dict) -> dict[str, Any]:
    """The pace in each round, and all that is known of its programs."""
    work, full = recovery.work, full_schedule(recovery.work, args.schedule)
    calls = math.ceil(args.steps / recovery.steps_per_call)
    ours = short_plans(work, full, (calls + 1) * recovery.steps_per_call)
    program = recovery.program()
    sides = {OURS: our_side(recovery, program, ours, args.class_batches)}
    start = time.perf_counter()
    sides[OURS]()
    first_turn, memory = time.perf_counter() - start, machine.peak_memory()  # before torch
    if args.reference:
        theirs = short_plans(work, full, args.steps + 1)
        sides[THEIRS] = their_side(recovery, args.reference, theirs)
        sides[THEIRS]()
    medians = turns.take_turns(sides, args.turns)
    demands = {n: machine.demand(found) for n, found in program.executables().items()}

    def row(what: Any, active: int) -> dict[str, Any]:
        images = {OURS: active * args.class_batches, THEIRS: active}
        found = turns.compare(images, {side: times[what] for side, times in medians.items()})
        shares = ceilings(recovery, images[OURS], demands[active], rates, found["seconds"][OURS])
        return {"active": active, **found, **shares}

    early = recovery.class_batch(ours[0])
    counts = [early.prefix(r) for r in range(early.rounds)]
    mean = {
        side: float(np.mean([times[n] for n in counts])) for side, times in medians.items()
    }
    images = {OURS: np.mean(counts) * args.class_batches, THEIRS: np.mean(counts)}
    return {
        "steps_per_call": recovery.steps_per_call,
        "counted_steps": args.steps,
        "turns": args.turns,
        "class_batches": args.class_batches,
        "by_active": [row(n, n) for n in dict.fromkeys(counts)],
        "all": row(ALL, work.images),
        "early_late_mean": turns.compare(images, mean),
        "saved": {
            "count": 1 - float(np.mean(counts)) / work.images,
            **{side: 1 - mean[side] / times[ALL] for side, times in medians.items()},
        },
        "compile_seconds": program.compile_seconds,
        "first_turn_seconds": first_turn,
        "memory": memory,
    }


def ceilings(
    recovery: Recovery, images: int, demand: dict[str, float], rates: dict, seconds: float
) -> dict[str, float]:
    """A step of ours as shares of what the device can do (see the head of this file)."""
    flops = 2 * machine.forward_flops(recovery.module, recovery.work.size) * images
    found = {
        "flops": flops,
        "floor_seconds": flops / rates["flops"],
        "matrix_share": flops / seconds / rates["flops"],
        **demand,
    }
    if "bytes_accessed" in demand:
        found["bandwidth_share"] = demand["bytes_accessed"] / seconds / rates["bytes"]
    return found


def measure_early_late(recovery: Recovery, args: argparse.Namespace, rates: dict) -> dict[str, Any]:
    """Wall clock of the whole schedule, EarlyLate and constant, each compiling all it needs."""
    del rates
    full = full_schedule(recovery.work, args.schedule)
    result: dict[str, Any] = {"schedule": args.schedule}
    jax.config.update("jax_enable_compilation_cache", False)
    for name, early_late in (("early_late", True), ("constant", False)):
        jax.clear_caches()
        plan = dataclasses.replace(full, early_late=early_late)
        start = time.perf_counter()
        program, by_round = recovery.program(), np.zeros(plan.rounds)
        for r, _, taken in recovery.run(program, plan, args.class_batches):
            by_round[r] += taken
        result[name] = {
            "seconds": time.perf_counter() - start,
            "seconds_waiting_for_compiler": program.compile_seconds,
            "seconds_by_round": by_round.tolist(),
            "image_iterations": recovery.class_batch(plan).image_iterations * args.class_batches,
        }
    early, constant = result["early_late"], result["constant"]
    result["saved"] = {
        "count": 1 - early["image_iterations"] / constant["image_iterations"],
        "seconds": 1 - early["seconds"] / constant["seconds"],
    }
    return result


def pace(recovery: Recovery, args: argparse.Namespace, class_batches: int) -> dict[str, Any]:
    """Image-iterations per second of all devices together, all images active."""
    calls = math.ceil(args.steps / recovery.steps_per_call)
    length = (calls + 1) * recovery.steps_per_call
    plan = schedule.Schedule(recovery.work.ipc, length, length, early_late=False)
    program = recovery.program()
    side = our_side(recovery, program, [plan], class_batches)
    side()
    seconds = turns.take_turns({OURS: side}, args.turns)[OURS][ALL]
    images = recovery.work.images * class_batches * recovery._devices
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "compile_seconds": program.compile_seconds,
        **machine.demand(program.executables()[recovery.work.images]),
        **machine.peak_memory(),
    }


def measure_class_batches(recovery: Recovery, args: argparse.Namespace, rates: dict) -> list[dict]:
    """The pace with several class batches side by side on one device."""
    rows = []
    for count in args.try_class_batches:
        row = pace(recovery, args, count)
        images = recovery.work.images * count
        demand = {key: row[key] for key in ("bytes_accessed",) if key in row}
        shares = ceilings(recovery, images, demand, rates, row["seconds"])
        rows.append({"class_batches": count, **row, **shares})
    return rows


def measure_devices(recovery: Recovery, args: argparse.Namespace, rates: dict) -> list[dict]:
    """The pace with class batches split over devices: real ones here, fake ones in new processes."""
    del rates
    rows = []
    for count in args.try_devices:
        if jax.default_backend() == "cpu":
            rows.append({"devices": count, **_pace_on_fake_devices(count, args)})
        elif count <= jax.device_count():
            on_devices = Recovery(recovery.work, args.weights, count)
            rows.append({"devices": count, **pace(on_devices, args, args.class_batches)})
    return rows


def _pace_on_fake_devices(count: int, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "pace.json"
        work = dataclasses.asdict(chosen_work(args))
        command = [sys.executable, "-m", "benchmarks.synthesis", "--parts=pace"]
        command += [f"--{name}={value}" for name, value in work.items()]
        command += [f"--fake-devices={count}", f"--class-batches={args.class_batches}"]
        command += [f"--steps={args.steps}", f"--turns={args.turns}", f"--json={file}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(file.read_text())["pace"]


def measure_pace(recovery: Recovery, args: argparse.Namespace, rates: dict) -> dict[str, Any]:
    """What a process with fake devices measures."""
    del rates
    return pace(recovery, args, args.class_batches)


def measure_ipc(recovery: Recovery, args: argparse.Namespace, rates: dict) -> list[dict]:
    """The pace over the whole EarlyLate schedule, and its rounds, for several IPC."""
    rows = []
    for ipc in args.try_ipc:
        work = dataclasses.replace(recovery.work, ipc=ipc)
        work = dataclasses.replace(work, classes=max(work.classes, math.ceil(work.images / ipc)))
        alone = argparse.Namespace(**{**vars(args), "reference": None})
        found = measure_rounds(Recovery(work), alone, rates)
        rows.append({
            "ipc": ipc,
            "programs": len(found["by_active"]),
            "images_per_second": found["early_late_mean"]["images_per_second"][OURS],
            "saved": found["saved"],
            "compile_seconds": found["compile_seconds"],
        })  # fmt: skip
    return rows


def measure_profile(recovery: Recovery, args: argparse.Namespace, rates: dict) -> dict[str, Any]:
    """Device time of a step by kind of operation, and its floors in arithmetic and in memory."""
    length = (PROFILED_CALLS + 1) * recovery.steps_per_call
    plan = schedule.Schedule(recovery.work.ipc, length, length, early_late=False)
    program = recovery.program()
    calls = recovery.run(program, plan, args.class_batches)
    next(calls)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            taken = [(steps, seconds) for _, steps, seconds in calls]
        time_by = profiles.device_time(pathlib.Path(folder))
    steps, seconds = (sum(column) for column in zip(*taken, strict=True))
    demand = machine.demand(program.executables()[recovery.work.images])
    images = recovery.work.images * args.class_batches
    found = ceilings(recovery, images, demand, rates, seconds / steps)
    if "bytes_accessed" in demand:
        found["memory_floor_seconds"] = demand["bytes_accessed"] / rates["bytes"]
    return {
        "seconds": seconds / steps,
        **found,
        "seconds_by_kind": {kind: time / steps for kind, time in time_by.kinds.items()},
        "longest_operations": {name: time / steps for name, time in time_by.longest.items()},
    }


PARTS: dict[str, Callable[[Recovery, argparse.Namespace, dict], Any]] = {
    "rounds": measure_rounds,
    "early_late": measure_early_late,
    "class_batches": measure_class_batches,
    "devices": measure_devices,
    "ipc": measure_ipc,
    "profile": measure_profile,
    "pace": measure_pace,
}


def full_schedule(work: Work, text: str) -> schedule.Schedule:
    """The EarlyLate schedule that `--schedule=ITERATIONS/ROUND_ITERATIONS` names."""
    iterations, slash, length = text.partition("/")
    if not slash or not iterations.isdigit() or not length.isdigit():
        raise InputError(f"--schedule {text}: expected ITERATIONS/ROUND_ITERATIONS, as 4000/500")
    return schedule.Schedule(work.ipc, int(iterations), int(length))


def chosen_work(args: argparse.Namespace) -> Work:
    """The work that `--work` names, with what other flags change about it."""
    names = [field.name for field in dataclasses.fields(Work)]
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return dataclasses.replace(WORKS[args.work], **changes)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the parts that are asked for, and writes what there is after each."""
    work = chosen_work(args)
    recovery = Recovery(work, args.weights, args.fake_devices)
    result: dict[str, Any] = {
        "machine": machine.describe("torch"),
        "work": dataclasses.asdict(work),
        "forward_flops_per_image": machine.forward_flops(recovery.module, work.size),
        "rates": machine.rates(work.dtype) if args.parts != ["pace"] else {},
    }
    if args.reference:
        result["machine"]["torch_threads"] = args.threads
    for part in args.parts:
        result[part] = PARTS[part](recovery, args, result["rates"])
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


def table(result: dict[str, Any]) -> str:
    """The result in Markdown, a table for each part."""
    work, rates = result["work"], result["rates"]
    device = result["machine"]
    sections = [
        f"{work['arch']}, {work['size']} px, class batches of {work['images']}, IPC {work['ipc']}, "
        f"{work['dtype']}; {device['device']} ({device['devices']} of them, {device['cores']} "
        f"cores), jax {device['versions']['jax']}"
    ]
    if rates:
        sections.append(
            f"Forward pass: {result['forward_flops_per_image'] / 1e9:.3f} GFLOP an image. Matrix "
            f"product: {rates['flops'] / 1e9:,.0f} GFLOP/s. Memory: {rates['bytes'] / 1e9:,.1f} GB/s."
        )
    for part, write in TABLES.items():
        if part in result:
            sections.append(write(result[part]))
    return "\n\n".join(sections)


def _rounds_table(found: dict[str, Any]) -> str:
    rows = []
    named = [(f"{row['active']} active", row) for row in found["by_active"]]
    named += [("constant iterations", found["all"]), ("EarlyLate, mean", found["early_late_mean"])]
    for name, row in named:
        seconds, rate = row["seconds"], row["images_per_second"]
        rows.append([
            name,
            *(f"{seconds[side]:.4f}" if side in seconds else "" for side in (THEIRS, OURS)),
            *(f"{rate[side]:,.1f}" if side in rate else "" for side in (THEIRS, OURS)),
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            *(f"{row[key]:.0%}" if key in row else "" for key in ("matrix_share", "bandwidth_share")),
        ])  # fmt: skip
    header = ["", "theirs, s", "ours, s", "theirs, images/s", "ours, images/s", "ratio"]
    saved = ", ".join(f"{of} {share:.1%}" for of, share in found["saved"].items())
    ((kind, peak),) = found["memory"].items()
    return "\n".join([
        turns.markdown([*header, "of matrix rate", "of bandwidth"], rows),
        "",
        f"EarlyLate saves: {saved}. Waiting for the compiler: {found['compile_seconds']:.1f} s. "
        f"{kind.replace('_', ' ')}: {peak / 1e6:,.0f} MB.",
    ])  # fmt: skip


def _early_late_table(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{found[key]['image_iterations']:,}",
            f"{found[key]['seconds']:.1f}",
            f"{found[key]['seconds_waiting_for_compiler']:.1f}",
        ]
        for key, name in (("early_late", "EarlyLate"), ("constant", "constant iterations"))
    ]
    saved = found["saved"]
    rows.append(["saved", f"{saved['count']:.1%}", f"{saved['seconds']:.1%}", ""])
    header = [found["schedule"], "image-iterations", "seconds", "of them waiting for the compiler"]
    return turns.markdown(header, rows)


def _scaling_table(name: str, key: str) -> Callable[[list[dict[str, Any]]], str]:
    def write(rows: list[dict[str, Any]]) -> str:
        first = rows[0]["images_per_second"]
        cells = [
            [
                f"{row[key]}",
                f"{row['images_per_second']:,.1f}",
                f"{row['images_per_second'] / first:.2f}",
                f"{row['temp_bytes'] / 1e6:,.0f}" if "temp_bytes" in row else "",
                f"{row['compile_seconds']:.1f}",
            ]
            for row in rows
        ]
        header = [name, "image-iterations/s", "of the first", "activations, MB", "compiling, s"]
        return turns.markdown(header, cells)

    return write


def _profile_table(found: dict[str, Any]) -> str:
    total = sum(found["seconds_by_kind"].values())
    rows = [
        [kind, f"{seconds * 1e3:.3f}", f"{seconds / total:.1%}"]
        for kind, seconds in found["seconds_by_kind"].items()
    ]
    floors = f"floor of its arithmetic {found['floor_seconds'] * 1e3:.3f} ms"
    if "memory_floor_seconds" in found:
        floors += f", of its memory traffic {found['memory_floor_seconds'] * 1e3:.3f} ms"
    longest = ", ".join(
        f"{name} {seconds * 1e3:.3f}" for name, seconds in found["longest_operations"].items()
    )
    return "\n".join([
        turns.markdown(["kind of operation", "ms a step", "share"], rows),
        "",
        f"A step: {found['seconds'] * 1e3:.3f} ms; {floors}. Longest, ms: {longest}.",
    ])  # fmt: skip


TABLES: dict[str, Callable[[Any], str]] = {
    "rounds": _rounds_table,
    "early_late": _early_late_table,
    "class_batches": _scaling_table("class batches a device", "class_batches"),
    "devices": _scaling_table("devices", "devices"),
    "ipc": _scaling_table("IPC", "ipc"),
    "profile": _profile_table,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.synthesis", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flag = parser.add_argument
    flag("--work", choices=WORKS, default="cifar10", help="what is synthesised")
    flag("--arch", help="the teacher's, instead of the work's")
    flag("--size", type=int, help="side of the images in pixels, likewise")
    flag("--images", type=int, help="of a class batch, likewise")
    flag("--ipc", type=int, help="images per class, likewise")
    flag("--classes", type=int, help="logits of the teacher, likewise")
    flag("--dtype", choices=("float32", "bfloat16"), help="of our activations; theirs: float32")
    flag("--parts", default="rounds", help="some of " + ", ".join(TABLES))
    flag("--schedule", default="4000/500", help="iterations / iterations of a round")
    flag("--class-batches", type=int, default=1, help="of ours, side by side on each device")
    flag("--try-class-batches", default="1,2,4", help="of the part class_batches")
    flag("--try-devices", default="1,2,4", help="of the part devices")
    flag("--try-ipc", default="10,50,100", help="of the part ipc")
    flag("--fake-devices", type=int, default=0, help="make the CPU so many devices; 0: as found")
    flag("--reference", type=pathlib.Path, help="a clone of VILA-Lab/DELT to time beside")
    flag("--weights", type=pathlib.Path, help="teacher's weights; otherwise random")
    flag("--steps", type=int, help="counted steps of each round and turn; 5 on a CPU, else 100")
    flag("--turns", type=int, default=3, help="of each side")
    flag("--threads", type=int, default=os.cpu_count(), help="torch's; JAX takes all cores")
    flag("--json", type=pathlib.Path, help="file for what was measured")
    flag("--table", type=pathlib.Path, help="file for the tables, which are printed too")
    flag("--plot", type=pathlib.Path, help="file for a figure (.svg, .png); needs matplotlib")
    args = parser.parse_args(arguments)
    args.parts = args.parts.split(",")
    for part in args.parts:
        if part not in PARTS:
            raise InputError(f"--parts {part}: expected some of {', '.join(TABLES)}")
    for name in ("try_class_batches", "try_devices", "try_ipc"):
        setattr(args, name, [int(count) for count in getattr(args, name).split(",")])
    if args.fake_devices:
        jax.config.update("jax_num_cpu_devices", args.fake_devices)
    if args.steps is None:
        args.steps = 5 if jax.default_backend() == "cpu" else 100
    return args


def main() -> None:
    try:
        args = parse()
        if args.reference:
            import torch

            torch.set_num_threads(args.threads)
        result = measure(args)
    except InputError as error:
        sys.exit(f"error: {error}")
    text = table(result)
    print(text)
    if args.table:
        args.table.write_text(text + "\n")
    if args.plot:
        figures.synthesis(result, args.plot)


if __name__ == "__main__":
    main()
