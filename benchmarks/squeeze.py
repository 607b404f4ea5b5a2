"""Times a teacher's training as the squeeze stage does it: seconds, images per second, top-1.

    python -m benchmarks.squeeze --source=data/cifar10 [--set OPTION=VALUE] [--json=FILE]

By default ResNet-18 with the small-image stem on CIFAR-10, by the recipe of configs/cifar10.py; the
goal is 95 % in under three minutes on a GPU of the H100 class, compiling and testing included.
Every run is a new one, and compiles anew unless JAX_COMPILATION_CACHE_DIR is set.
"""

import argparse
import importlib
import importlib.metadata
import json
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np

from delt_jax.errors import InputError
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import preflight, squeeze

TARGET_TOP1, TARGET_SECONDS = 95.0, 180.0


def make_config(name: str, source: str, arch: str, changes: list[str]) -> Any:
    """A config of configs/ with its data, its teacher and `option=value` changes."""
    argument = ",".join(
        f"{key}={value}" for key, value in (("source", source), ("teacher", arch)) if value
    )
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    for change in changes:
        option, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: expected option=value")
        *path, last = option.split(".")
        place = config
        for part in path:
            place = place[part]
        kind = type(place[last])
        place[last] = text.lower() in ("true", "1") if kind is bool else kind(text)
    preflight.check(config)
    return config


def measure(config: Any, seed: int) -> dict[str, Any]:
    """Trains and tests one teacher; times in seconds."""
    config.seed = seed
    with tempfile.TemporaryDirectory() as folder:
        workdir = WorkDir(folder)
        began = time.time()
        result = squeeze.run(config, workdir)
        seconds = time.time() - began
        rows = [row for row in read_metrics(workdir.metrics_jsonl) if "epoch" in row]
    ends = np.array([row["time"] for row in rows])
    recipe = result.teacher.recipe
    steady = float(np.median(np.diff(ends))) if len(ends) > 1 else None
    steps = recipe["train_images"] // recipe["batch_size"]
    return {
        "seed": seed,
        "top1": result.teacher.top1,
        "seconds": seconds,
        "seconds_to_end_of_first_epoch": float(ends[0] - began),  # reading and compiling included
        "seconds_per_epoch": steady,
        "seconds_after_last_epoch": float(began + seconds - ends[-1]),
        "images_per_second": steps * recipe["batch_size"] / steady if steady else None,
        "final_loss": rows[-1]["loss"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.squeeze")
    flag = parser.add_argument
    flag("--config", default="cifar10", help="a name in configs/ that takes source and teacher")
    flag("--source", default="", help="the data: folder, .npz or tfds:NAME")
    flag("--arch", default="", help="the teacher, if not the config's")
    flag("--seeds", type=int, default=1, help="how many runs")
    flag("--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option")
    flag("--json", type=pathlib.Path, help="file for what was measured")
    args = parser.parse_args()
    config = make_config(args.config, args.source, args.arch, args.set)
    runs = [measure(config, seed) for seed in range(args.seeds)]
    device = jax.devices()[0]
    result = {
        "device": device.device_kind,
        "backend": device.platform,
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")},
        "arch": config.teacher.arch,
        "data": config.data.name,
        "recipe": config.teacher.squeeze.to_dict(),
        "runs": runs,
        "median_seconds": float(np.median([run["seconds"] for run in runs])),
        "mean_top1": float(np.mean([run["top1"] for run in runs])),
    }
    result["target"] = {
        "top1": TARGET_TOP1,
        "seconds": TARGET_SECONDS,
        "met": result["mean_top1"] >= TARGET_TOP1 and result["median_seconds"] < TARGET_SECONDS,
    }
    print(f"{config.teacher.arch} on {config.data.name}, {device.device_kind}")
    print(f"{'seed':>5}{'top-1 %':>9}{'seconds':>9}{'s/epoch':>9}{'images/s':>10}")
    for run in runs:
        epoch, rate = run["seconds_per_epoch"] or np.nan, run["images_per_second"] or np.nan
        print(
            f"{run['seed']:5}{run['top1']:9.2f}{run['seconds']:9.1f}{epoch:9.2f}{rate:10,.0f}",
        )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
