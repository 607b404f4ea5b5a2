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
import dataclasses
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import command, figures, machine, profiles, tables, turns
from benchmarks.recovery import ALL, WORKS, Recovery, Work, our_side, short_plans, their_side
from benchmarks.turns import OURS, THEIRS
from delt_jax.core import schedule
from delt_jax.errors import InputError

PROFILED_CALLS = 3


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
        sides[THEIRS] = their_side(recovery, args.reference, args.threads, theirs)
        sides[THEIRS]()
    medians = turns.take_turns(sides, args.turns)
    demands = {n: machine.demand(found) for (_, n), found in program.executables().items()}

    def row(what: Any, active: int) -> dict[str, Any]:
        images = {OURS: active * args.class_batches, THEIRS: active}
        found = turns.compare(images, {side: times[what] for side, times in medians.items()})
        shares = ceilings(recovery, images[OURS], demands[active], rates, found["seconds"][OURS])
        return {"active": active, **found, **shares}

    early = recovery.class_batch(ours[0])
    counts = [early.prefix(r) for r in range(early.rounds)]
    mean = {side: float(np.mean([times[n] for n in counts])) for side, times in medians.items()}
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
    refuse_kept_programs(jax.config.jax_compilation_cache_dir)  # pyright: ignore[reportAttributeAccessIssue]
    result: dict[str, Any] = {"schedule": args.schedule}
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


def refuse_kept_programs(folder: str | None) -> None:
    """Raises `InputError` where programs would be read from a folder instead of compiled."""
    if folder:
        raise InputError(
            f"JAX_COMPILATION_CACHE_DIR is {folder}; expected none where compiling is timed"
        )


def pace(recovery: Recovery, args: argparse.Namespace, class_batches: int) -> dict[str, Any]:
    """Image-iterations per second of all devices together, all images active."""
    calls = math.ceil(args.steps / recovery.steps_per_call)
    length = (calls + 1) * recovery.steps_per_call
    plan = schedule.Schedule(recovery.work.ipc, length, length, early_late=False)
    program = recovery.program()
    side = our_side(recovery, program, [plan], class_batches)
    side()
    seconds = turns.take_turns({OURS: side}, args.turns)[OURS][ALL]
    images = recovery.work.images * class_batches * recovery.devices
    return {
        "seconds": seconds,
        "images_per_second": images / seconds,
        "compile_seconds": program.compile_seconds,
        **machine.demand(*program.executables().values()),
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
    """The pace with class batches split over devices: real ones, or fake ones elsewhere."""
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
    demand = machine.demand(*program.executables().values())
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
        command.write_json(result, args)
    return result


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command.parser("synthesis", __doc__)
    flag = parser.add_argument
    flag("--work", choices=WORKS, default="cifar10", help="what is synthesised")
    flag("--arch", help="the teacher's, instead of the work's")
    flag("--size", type=int, help="side of the images in pixels, likewise")
    flag("--images", type=int, help="of a class batch, likewise")
    flag("--ipc", type=int, help="images per class, likewise")
    flag("--classes", type=int, help="logits of the teacher, likewise")
    flag("--parts", default="rounds", help="some of " + ", ".join(tables.PARTS))
    flag("--schedule", default="4000/500", help="iterations / iterations of a round")
    flag("--class-batches", type=int, default=1, help="of ours, side by side on each device")
    flag("--try-class-batches", default="1,2,4", help="of the part class_batches")
    flag("--try-devices", default="1,2,4", help="of the part devices")
    flag("--try-ipc", default="10,50,100", help="of the part ipc")
    flag("--fake-devices", type=int, default=0, help="make the CPU so many devices; 0: as found")
    flag("--weights", type=pathlib.Path, help="teacher's weights; otherwise random")
    flag("--steps", type=int, help="counted steps of each round and turn; 5 on a CPU, else 100")
    flag("--turns", type=int, default=3, help="of each side")
    args = parser.parse_args(arguments)
    args.parts = args.parts.split(",")
    for part in args.parts:
        if part not in PARTS:
            raise InputError(f"--parts {part}: expected some of {', '.join(tables.PARTS)}")
    for name in ("try_class_batches", "try_devices", "try_ipc"):
        setattr(args, name, [int(count) for count in getattr(args, name).split(",")])
    if args.fake_devices:
        jax.config.update("jax_num_cpu_devices", args.fake_devices)
    if args.steps is None:
        args.steps = 5 if jax.default_backend() == "cpu" else 100
    return args


def main() -> None:
    command.run(parse, measure, tables.synthesis, figures.synthesis)


if __name__ == "__main__":
    main()
