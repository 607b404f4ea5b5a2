"""What XLA makes of a step of synthesis for a machine that is not here, without any device.

    python -m benchmarks.ahead --target=h200 [--class-batches=1,2,4] [--devices=1] [--json=FILE]

compiles the stage's own program ahead of time, for a TPU (`pip install 'jax[tpu]'`) or for a GPU
(`pip install 'jax[cuda13]'`), and says what follows from the compiled program alone:

- *compiling*: seconds here; a GPU's tuning of its kernels comes on top there;
- *memory*: that a device needs for the arguments (images, moments, teacher) and beside them;
- *moved*: bytes that a step reads and writes, operation by operation, as if no cache kept any: by
  the compiler's own count for TPUs, with the padding of their tiles and with what stays on the
  chip, else by `traffic.py`'s; *layout*: the share of transposes and copies;
- *collectives*: operations between devices (there should be none);
- *arithmetic* and *moving*: two forward passes' FLOPs over the published peak, and the bytes moved
  over the published bandwidth, and the images/s if a step took the longer of them. A scale, not a
  bound: caches move faster, and the crops' products in float32 are not counted. What a step takes
  has to be measured (`benchmarks.gpu`, `benchmarks.synthesis`).
"""

import argparse
import dataclasses
import os
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from benchmarks import command, machine, tables
from benchmarks.recovery import Recovery, Work
from benchmarks.traffic import traffic
from delt_jax import target
from delt_jax.core import rounds, schedule
from delt_jax.errors import InputError
from delt_jax.runtime.device_table import MACHINES, Machine

# A GPU as its compiler has to know it: what CUDA's device query says of an H200.
H200 = """
gpu_device_info {
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000
  device_memory_size: 151397597184
  l2_cache_size: 52428800
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  threads_per_warp: 32
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H200"
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to compile for.

    Attributes:
      platform: as `delt_jax.target.platform` returns.
      machine: its name in `delt_jax.runtime.device_table`, for what its vendor publishes.
      topology: of a TPU, as libtpu names it.
    """

    platform: str
    machine: str
    topology: str = ""


TARGETS = {
    "h200": Target("gpu", "one H200 SXM"),
    "v4-8": Target("tpu", "TPU v4-8", "v4:2x2x1"),
    "v5e-8": Target("tpu", "TPU v5e-8", "v5e:2x4"),
    "v5e-64": Target("tpu", "TPU v5e-64", "v5e:8x8"),
    "v6e-8": Target("tpu", "TPU v6e-8", "v6e:2x4"),
}


def devices(name: str, count: int) -> list[Any]:
    """Devices that can be compiled for, and nothing else.

    Raises:
      InputError: where the compiler for them is not installed, or there are not so many.
    """
    chosen = TARGETS[name]
    extra = "tpu" if chosen.platform == "tpu" else "cuda13"
    try:
        if chosen.platform == "tpu":
            # Of a v4 the two cores of a chip are one device of jax, as they are on the machine.
            config = {"chip_config_name": "megacore"} if name == "v4-8" else {}
            found = topologies.get_topology_desc(chosen.topology, "tpu", **config).devices
        else:
            shape = f"1x1x{count}"
            found = topologies.get_topology_desc(
                "", "cuda", target_config=H200, topology=shape
            ).devices
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--target {name}: no compiler for it ({reason}); expected pip install 'jax[{extra}]'"
        ) from error
    if count > len(found):
        raise InputError(f"--devices {count}: {name} has {len(found)}")
    return found[:count]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles for each number of class batches; writes what there is after each."""
    work, chosen = args.work, TARGETS[args.target]
    published = next(one for one in MACHINES if one.name == chosen.machine)
    mesh = Mesh(np.array(devices(args.target, args.devices)), (rounds.CLASS_BATCHES,))
    result: dict[str, Any] = {
        "target": args.target,
        "devices": args.devices,
        "published": dataclasses.asdict(published),
        "machine": machine.describe("jaxlib", "libtpu", "jax-cuda13-plugin"),
        "work": dataclasses.asdict(work),
        "rows": [],
    }
    with target.made_for(chosen.platform):
        recovery = Recovery(work)
        plan = schedule.Schedule(
            work.ipc, recovery.steps_per_call, recovery.steps_per_call, early_late=False
        )
        for count in args.class_batches:
            start = time.perf_counter()
            compiled = recovery.compiled(mesh, plan, count)
            seconds = time.perf_counter() - start
            images = count * work.images
            row = {"class_batches": count, "images": images, "compile_seconds": seconds}
            row |= findings(compiled, recovery, images, published)
            result["rows"].append(row)
            command.write_json(result, args)
    return result


def findings(compiled: Any, recovery: Recovery, images: int, published: Machine) -> dict:
    """What a compiled program says of a step on one device."""
    demand = machine.demand(compiled)
    counted = traffic(compiled.as_text() or "")
    moved = demand.pop("bytes_accessed", None) or counted.bytes
    flops = 2 * machine.forward_flops(recovery.module, recovery.work.size) * images
    at_peak = {
        "arithmetic_seconds": flops / published.peak(recovery.work.dtype),
        "memory_seconds": moved / published.bandwidth,
    }
    return {
        **demand,
        "memory_share": sum(demand.values()) / published.memory,
        "bytes_moved": moved,
        "shares_by_kind": {kind: of / counted.bytes for kind, of in counted.kinds.items()},
        "operations": counted.operations,
        "collectives": counted.collectives,
        "flops": flops,
        **at_peak,
        "images_per_second_at_peak": images / max(at_peak.values()),
    }


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    work, versions = result["work"], result["machine"]["versions"]
    names = ", ".join(f"{name} {of}" for name, of in versions.items() if of)
    rows = [
        [
            f"{row['class_batches']}",
            f"{row['compile_seconds']:.0f}",
            f"{row['argument_bytes'] / 1e9:.2f} + {row['temp_bytes'] / 1e9:.2f}",
            f"{row['bytes_moved'] / 1e9:.2f}",
            f"{row['shares_by_kind'].get('layout change', 0):.0%}",
            f"{row['operations']}",
            f"{row['collectives']}",
            f"{row['arithmetic_seconds'] * 1e3:.2f}",
            f"{row['memory_seconds'] * 1e3:.2f}",
            f"{row['images_per_second_at_peak']:,.0f}",
        ]
        for row in result["rows"]
    ]
    header = ["class batches", "compiling, s", "memory, GB", "moved a step, GB", "layout"]
    header += ["operations", "collectives", "arithmetic, ms", "moving, ms", "images/s at peak"]
    return "\n".join([
        f"{work['arch']}, {work['size']} px, class batches of {work['images']}, {work['dtype']}, "
        f"compiled for {result['devices']} of {result['target']}; {names}",
        "",
        tables.markdown(header, rows),
    ])  # fmt: skip


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.ahead", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flag = parser.add_argument
    flag("--target", choices=TARGETS, required=True, help="the machine to compile for")
    flag("--devices", type=int, default=1, help="of it, over which class batches are split")
    flag("--class-batches", default="1,2,4", help="side by side on each device")
    flag("--arch", default="resnet18", help="the teacher's")
    flag("--size", type=int, default=224, help="side of the images in pixels")
    flag("--images", type=int, default=100, help="of a class batch, all of them active")
    flag("--ipc", type=int, default=50, help="images per class")
    flag("--classes", type=int, default=1000, help="logits of the teacher")
    flag("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of activations")
    command.output_flags(parser)
    args = parser.parse_args(arguments)
    args.class_batches = [int(count) for count in args.class_batches.split(",")]
    args.work = Work(args.arch, args.size, args.images, args.ipc, args.classes, args.dtype)
    return args


def prepare() -> None:
    """Tells the compilers that no device is here; before the first of them is asked for."""
    jax.config.update("jax_platforms", "cpu")  # for what little runs
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu waits for a TPU's host to answer
    # Kernels are tuned by running them; some of Triton's have no size to fall back on untuned.
    flags = " --xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flags


def main() -> None:
    prepare()
    command.run(parse, measure, table)


if __name__ == "__main__":
    main()
