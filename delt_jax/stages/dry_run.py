"""What a run would do and cost, before any of it: counts, memory, disk, and hours by machine.

Neither the data nor the weights are needed. What is measured, a few steps of the synthesis and a
matrix product, takes seconds on this machine's first device.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from delt_jax import target
from delt_jax.core import packing, programs, rounds
from delt_jax.data.specs import DatasetSpec, statistics
from delt_jax.data.split_sizes import SPLIT_SIZES, SplitSizes
from delt_jax.errors import InputError
from delt_jax.models import cost, registry
from delt_jax.runtime.device_table import MACHINES, UTILISATION, Machine
from delt_jax.runtime.matrix_rate import matrix_rate
from delt_jax.stages import estimate, matching, packing_width
from delt_jax.stages.estimate import Holding, Task
from delt_jax.stages.opening import open_split
from delt_jax.stages.planning import Plan

CPU_SLOTS = 8  # at most so many are timed on a CPU, where a hundred large ones take their time
STEPS_PER_CALL = 20  # on accelerators: hides the dispatch


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the first device of this machine did.

    Attributes:
      slots: images of the step that was timed.
      rate: image-iterations per second.
      matrix: FLOP/s of a large matrix product.
    """

    slots: int
    rate: float
    matrix: float


def report(
    config: Any, spec: DatasetSpec, plan: Plan, stages: Sequence[str], measure: bool = True
) -> str:
    """The whole estimate as aligned tables, for people.

    Args:
      config: the resolved config.
      spec: the data set, and
      plan: of the synthesis, both from `delt_jax.stages.preflight.check`.
      stages: that are run.
      measure: time a few steps on this machine.
    """
    sizes, unknown = split_sizes(config, spec)

    @functools.cache
    def forward_flops(arch: str) -> float:
        return cost.forward_flops(
            registry.create(arch, spec.num_classes, spec.image_size), spec.image_size
        )

    tasks = estimate.tasks(config, spec, plan, sizes, forward_flops, stages)
    module = registry.create(config.teacher.arch, spec.num_classes, spec.image_size)
    shapes = registry.variable_shapes(module, spec.image_size)
    weights = cost.tree_bytes(shapes)
    dtype = programs.compute_dtype(config.synthesis.compute_dtype)
    kept = cost.kept_for_gradient(matching.matching_forward(module, dtype), shapes, spec.image_size)
    forward = forward_flops(config.teacher.arch)
    synthesises = bool(plan.image_iterations) and "synthesize" in stages
    here = measure_here(config, spec, plan) if measure and synthesises else None
    lines = [
        f"forward pass of {config.teacher.arch} at {spec.image_size} px: {forward / 1e9:.3g} GFLOP "
        "(a multiply-add counts 2); input gradient 1 more, training 2 more",
    ]
    if unknown:
        lines.append(f"not estimated: what depends on the number of real images ({unknown})")
    lines += ["", *_work_table(tasks, plan), ""]
    lines += _held_table("memory", memory(config, spec, plan, kept, weights, stages))
    held = estimate.disk(config, plan, spec.image_size, sizes, weights, jax.device_count())
    lines += ["", *_held_table("disk", held), ""]
    if here is not None:
        lines += [_describe(here, forward), ""]
    fits = functools.partial(_fits, config, spec, plan, kept, weights) if synthesises else None
    lines += _hours_table(tasks, here, forward, fits)
    lines += ["", *_notes(config, synthesises)]
    return "\n".join(lines)


def split_sizes(config: Any, spec: DatasetSpec) -> tuple[SplitSizes | None, str]:
    """Images of the splits as they are used, or None and why that is not known."""
    known = SPLIT_SIZES.get(spec.name)
    if known is None:
        try:
            known = SplitSizes(
                *(len(open_split(config, spec, split)) for split in ("train", "test"))
            )
        except InputError as error:
            return None, str(error)
    most = config.data.images_per_class
    return estimate.used_sizes(known, spec.num_classes, most), ""


def memory(
    config: Any,
    spec: DatasetSpec,
    plan: Plan,
    kept_per_image: float,
    weights: float,
    stages: Sequence[str],
) -> list[Holding]:
    """What synthesis and evaluation hold at once, on a device and on the host."""
    held = []
    images = plan.schedule.ipc * plan.num_classes
    if plan.image_iterations and "synthesize" in stages:
        slots = max(len(batch.slots) for batch in plan.batches)
        held = [
            Holding(
                f"device: {slots} slots of a class batch and their Adam moments, twice",
                2 * estimate.state_bytes(slots, spec.image_size),
                "float32; a prefix is cut out and put back",
            ),
            Holding(
                "device: activations kept for their gradient, all slots",
                slots * kept_per_image,
                f"{config.synthesis.compute_dtype}; XLA keeps less where it fuses",
            ),
            Holding(f"device: {config.teacher.arch}", weights, "float32"),
        ]
    if "evaluate" in stages:
        sets = len(config.evaluate.sets)
        held.append(
            Holding(
                f"host: {sets} sets of {images:,} images for the students",
                sets * images * spec.image_size**2 * 3,
                "uint8",
            )
        )
    return held


def _fits(
    config: Any, spec: DatasetSpec, plan: Plan, kept: float, weights: float, machine: Machine
) -> int:
    """Class batches side by side that fit into a device of the table."""
    slots = max(len(batch.slots) for batch in plan.batches)
    one, two = (
        estimate.synthesis_memory(slots, spec.image_size, kept, weights, width) for width in (1, 2)
    )
    limit = packing_width.MEMORY_SHARE * machine.memory
    most = -(-len(plan.batches) // machine.devices)
    return min(estimate.widest(limit, one, two), most)


# Measuring.


def measure_here(config: Any, spec: DatasetSpec, plan: Plan) -> Measured:
    """Times steps of the config's synthesis on noise, with a teacher of noise."""
    on_cpu = target.platform() == "cpu"
    pack = packing.make_packs(plan.batches[:1], 1)[0]
    r = 0 if on_cpu else packing_width.typical_round(pack)
    slots = min(pack.prefix(r), CPU_SLOTS) if on_cpu else pack.prefix(r)
    module = registry.create(config.teacher.arch, spec.num_classes, spec.image_size)
    variables = noise_variables(registry.variable_shapes(module, spec.image_size))
    program = rounds.Program(
        matching.method(
            *(module, spec.image_size, variables),
            *(statistics("dataset", spec), config.synthesis),
        ),
        steps_per_call=programs.steps_per_call(STEPS_PER_CALL),
    )
    run = packing_width.TrialRun(
        program, matching.prepared(variables), pack, spec.image_size, r, slots
    )
    run.step(1)  # compiles
    return Measured(slots, run.rate(), matrix_rate("float32" if on_cpu else "bfloat16"))


def noise_variables(shapes: Any) -> Any:
    """Variables of these shapes that keep activations within bounds; cheaper than to initialise."""
    generator = np.random.default_rng(0)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if len(shape.shape) > 1:
            fan_in = math.prod(shape.shape[:-1])
            noise = generator.standard_normal(shape.shape, np.float32)
            return noise * np.float32(1 / math.sqrt(fan_in))
        return np.full(shape.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


# Words.


def _describe(here: Measured, forward: float) -> str:
    achieved = here.rate * estimate.INPUT_GRADIENT * forward
    return (
        f"measured on this machine's first device, {here.slots} images a step: {here.rate:,.3g} "
        f"image-iterations/s = {achieved / 1e12:.3g} TFLOP/s; a matrix product "
        f"{here.matrix / 1e12:.3g} TFLOP/s"
    )


def _work_table(tasks: Sequence[Task], plan: Plan) -> list[str]:
    split_words = {
        "first host": "over the first host's devices",
        "devices": "over all devices",
        "hosts": "over hosts, each on its devices",
    }
    rows = [("stage", "work", "PFLOP", "how it is split")]
    rows += [
        (task.stage, task.what, _number(task.flops / 1e15), split_words[task.split])
        for task in tasks
    ]
    lines = _aligned(rows, right=(2,))
    if 0 < plan.image_iterations < plan.constant_image_iterations:
        lines.append(
            f"constant iterations would be {plan.constant_image_iterations:,} image-iterations: "
            f"{plan.saved_share:.1%} of them are saved"
        )
    return lines


def _held_table(name: str, held: Sequence[Holding]) -> list[str]:
    rows = [(name, "GB", "from")]
    for part in held:
        gigabytes = part.size / 1e9
        rows.append((part.what, f"{gigabytes:,.2f}" if gigabytes >= 0.01 else "<0.01", part.why))
    return _aligned(rows, right=(1,))


def _notes(config: Any, synthesises: bool) -> list[str]:
    notes = [
        f"listed machines: their vendors' peak rates times {UTILISATION:.0%}, which is assumed, "
        "not measured",
        "hours are of arithmetic alone: reading and decoding images, compiling and writing come "
        "on top",
    ]
    if synthesises:
        share = packing_width.MEMORY_SHARE
        notes.append(f"side by side: class batches that fit into {share:.0%} of a device's memory")
    if synthesises and config.synthesis.compute_dtype == "float32":
        notes.append(
            "synthesis in float32; --config.synthesis.compute_dtype=bfloat16 is for accelerators"
        )
    return notes


def _hours_table(
    tasks: Sequence[Task], here: Measured | None, forward: float, fits: Any
) -> list[str]:
    stages = list(dict.fromkeys(task.stage for task in tasks))
    rows: list[Sequence[str]] = [
        ("hours on", "devices", "hosts", "GB each", *stages, "total", "side by side")
    ]

    def row(name: str, devices: int, hosts: int, size: str, rate: Any, width: str) -> None:
        hours = [
            sum(task.seconds(rate(task), devices, hosts) for task in tasks if task.stage == stage)
            / 3600
            for stage in stages
        ]
        figures = (*hours, sum(hours))
        rows.append((name, str(devices), str(hosts), size, *map(_number, figures), width))

    for machine in MACHINES:
        row(
            *(machine.name, machine.devices, machine.hosts, f"{machine.memory / 1e9:.0f}"),
            lambda task, machine=machine: UTILISATION * machine.peak(task.compute_dtype),
            str(fits(machine)) if fits else "-",
        )
    if here is not None:
        achieved = here.rate * estimate.INPUT_GRADIENT * forward
        kind = jax.devices()[0].device_kind
        rows.append(tuple("-" * len(cell) for cell in rows[0]))
        row(
            f"this machine ({kind})",
            jax.device_count(),
            jax.process_count(),
            "-",
            lambda task: achieved,
            "-",
        )
    return _aligned(rows, right=range(1, len(rows[0])))


def _number(value: float) -> str:
    """Two or three digits that tell, never an exponent for what is large."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Columns side by side; those of `right` end at the same place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
