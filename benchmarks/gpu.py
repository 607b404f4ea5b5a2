"""All that is to be known of a GPU, in one call and under ten minutes.

    python -m benchmarks.gpu --json=gpu.json [--reference=PATH/TO/DELT] [--data=data/cifar10]

Needs jax with CUDA; torch with CUDA, torchvision and timm for `--reference`. Sections, each in a
process of its own, so that one that fails or takes too long does not lose the others; JSON is
written after each:

- `class_batches`: ResNet-18 at 224 px, bfloat16, class batches of 100 at IPC 50: image-iterations
  per second with 1, 2 and 4 class batches side by side, and the device's own rates.
- `beside`: the fastest of them beside the authors' code on the same GPU, all images active, where
  there is a checkout (float32, TF32 convolutions, as published).
- `profile`: device time by kind of operation, and the floors in arithmetic and in memory. Without
  CUDA graphs, in which operations have no names.
- `cifar10`: all stages, ResNet-18, IPC 50, one student, from `--data` to the report.
- `rounds`: in the time that is left, the pace in each of EarlyLate's eight rounds.

Sections share a folder of compiled programs, so compile seconds of the later ones are short.
`--quick` runs the same on tiny numbers, with or without a GPU; its figures mean nothing.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

GOAL_RATE = 20_000  # image-iterations/s on an H200-class GPU
GOAL_RATIO = 3.0  # of the authors' code on the same GPU
GOAL_SECONDS = 180  # CIFAR-10, all stages
WORK = ("--arch=resnet18", "--size=224", "--images=100", "--ipc=50", "--classes=1000")
QUICK_WORK = ("--arch=cifar_resnet20", "--size=16", "--images=8", "--ipc=4", "--classes=10")
SECTION_SECONDS = 280  # at most, of one section
CIFAR_CLASS_BATCHES = 5  # 500 images in class batches of 100: all at once

Results = dict[str, Any]


def measure_synthesis(args: argparse.Namespace, folder: pathlib.Path, *flags: str) -> list[str]:
    """The command of a run of `benchmarks.synthesis` that leaves folder/result.json."""
    command = [sys.executable, "-m", "benchmarks.synthesis", f"--json={folder / 'result.json'}"]
    command += QUICK_WORK if args.quick else WORK
    command += ["--dtype=bfloat16", "--turns=1" if args.quick else "--turns=2"]
    if args.quick:
        command += ["--schedule=4/2", "--steps=2"]
    return [*command, *flags]


def class_batches(args: argparse.Namespace, folder: pathlib.Path, results: Results) -> list[str]:
    del results
    tried = "1,2" if args.quick else "1,2,4"
    flags = ("--parts=class_batches", f"--try-class-batches={tried}")
    return measure_synthesis(args, folder, *flags)


def beside(args: argparse.Namespace, folder: pathlib.Path, results: Results) -> list[str]:
    flags = ["--parts=rounds", "--schedule=4000/4000"]  # one round: all images are active
    flags += [f"--class-batches={best(results)['class_batches']}", f"--reference={args.reference}"]
    return measure_synthesis(args, folder, *flags)


def profile(args: argparse.Namespace, folder: pathlib.Path, results: Results) -> list[str]:
    count = best(results)["class_batches"]
    return measure_synthesis(args, folder, "--parts=profile", f"--class-batches={count}")


def rounds(args: argparse.Namespace, folder: pathlib.Path, results: Results) -> list[str]:
    count = best(results)["class_batches"]
    return measure_synthesis(args, folder, "--parts=rounds", f"--class-batches={count}")


def cifar10(args: argparse.Namespace, folder: pathlib.Path, results: Results) -> list[str]:
    del results
    config = f"configs/cifar10.py:ipc=50,source={args.data}"
    changes = {
        "synthesis.compute_dtype": "bfloat16",
        "synthesis.class_batches_per_device": CIFAR_CLASS_BATCHES,
        "evaluate.compute_dtype": "bfloat16",
        "evaluate.sets": "('distilled',)",
        "evaluate.seeds": "(3407,)",
        "evaluate.eval_every": 0,
    }
    if args.quick:  # on the digits
        config, changes = "configs/cifar10.py:ipc=2,smoke", {"evaluate.sets": "('distilled',)"}
    command = [sys.executable, "-m", "delt_jax.main", f"--config={config}"]
    command += [f"--workdir={folder / 'run'}", "--compilation_cache="]
    return command + [f"--config.{name}={value}" for name, value in changes.items()]


SECTIONS: dict[str, Callable[[argparse.Namespace, pathlib.Path, Results], list[str]]] = {
    "class_batches": class_batches,
    "beside": beside,
    "profile": profile,
    "cifar10": cifar10,
    "rounds": rounds,
}


def best(results: Results) -> dict[str, Any]:
    """The fastest number of class batches that was tried; 1 where that failed."""
    tried = results.get("class_batches", {}).get("class_batches")
    return max(tried, key=lambda row: row["images_per_second"]) if tried else {"class_batches": 1}


def run_section(name: str, args: argparse.Namespace, results: Results, seconds: float) -> Any:
    """What a section found: the JSON that its process left, or why there is none."""
    environment = dict(os.environ)
    environment["JAX_COMPILATION_CACHE_DIR"] = str(args.cache)
    if name == "profile":
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_enable_command_buffer="
    # torch needs room beside JAX, which would take three quarters of the memory at once
    environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.6"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        start = time.monotonic()
        try:
            command = SECTIONS[name](args, folder, results)
            subprocess.run(command, env=environment, timeout=seconds, check=True)
        except (subprocess.SubprocessError, OSError) as error:
            failure = {"failed": str(error)}
        else:
            failure = {}
        found = {"wall_seconds": time.monotonic() - start, **failure}
        file = folder / "result.json"
        if file.exists():  # parts that were done before a failure count
            found |= json.loads(file.read_text())
        records = sorted((folder / "run" / "stages").glob("*.json"))
        if records:
            stages = {record.stem: json.loads(record.read_text()) for record in records}
            found["stage_seconds"] = {stage: of["seconds"] for stage, of in stages.items()}
        summary = folder / "run" / "results.json"
        if summary.exists():
            found["results"] = json.loads(summary.read_text())
    return found


def verdict(results: Results) -> list[str]:
    """The goals, and how far off they are; lines of text."""
    lines = []
    rate = best(results).get("images_per_second")
    if rate:
        lines.append(_goal("image-iterations/s, bfloat16", rate, GOAL_RATE, rate >= GOAL_RATE))
    ratio = results.get("beside", {}).get("rounds", {}).get("all", {}).get("ratio")
    if ratio:
        name = "times the authors' code, all images active"
        lines.append(_goal(name, ratio, GOAL_RATIO, ratio >= GOAL_RATIO))
    cifar = results.get("cifar10", {})
    if "wall_seconds" in cifar and "failed" not in cifar:
        seconds = cifar["wall_seconds"]
        name = "seconds for CIFAR-10, all stages"
        lines.append(_goal(name, seconds, GOAL_SECONDS, seconds < GOAL_SECONDS))
        lines += [f"  {stage}: {of:.1f} s" for stage, of in cifar["stage_seconds"].items() if of]
    for name, found in results.items():
        if isinstance(found, dict) and "failed" in found:
            lines.append(f"section {name} failed: {found['failed']}")
        elif isinstance(found, dict) and "skipped" in found:
            lines.append(f"section {name} skipped: {found['skipped']}")
    return lines


def _goal(name: str, found: float, goal: float, met: bool) -> str:
    return f"{name}: {found:,.1f} (goal {goal:,.0f}: {'met' if met else 'missed'})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flag = parser.add_argument
    flag("--reference", type=pathlib.Path, help="a clone of VILA-Lab/DELT")
    flag("--data", help="CIFAR-10, as data.source of a config")
    flag("--sections", default=",".join(SECTIONS), help="those to run, in this order")
    flag("--minutes", type=float, default=9.5, help="after which nothing runs any more")
    flag("--quick", action="store_true", help="tiny numbers, to try the script")
    flag("--json", type=pathlib.Path, default=pathlib.Path("gpu.json"), help="file for the results")
    args = parser.parse_args()
    names = args.sections.split(",")
    for name in names:
        if name not in SECTIONS:
            sys.exit(f"error: --sections {name}: expected some of {', '.join(SECTIONS)}")
    end = time.monotonic() + 60 * args.minutes
    results: Results = json.loads(args.json.read_text()) if args.json.exists() else {}
    with tempfile.TemporaryDirectory(prefix="compiled-") as cache:
        args.cache = cache
        for name in names:
            left = end - time.monotonic()
            if name == "cifar10" and not (args.data or args.quick):
                results[name] = {"skipped": "no --data"}
            elif name == "beside" and not args.reference:
                results[name] = {"skipped": "no --reference"}
            elif left < 10:
                results[name] = {"skipped": f"after {args.minutes} minutes"}
            else:
                print(f"== {name}", flush=True)
                results[name] = run_section(name, args, results, min(left, SECTION_SECONDS))
            args.json.write_text(json.dumps(results, indent=2) + "\n")
    print("\n== verdict")
    print("\n".join(verdict(results)))


if __name__ == "__main__":
    main()
