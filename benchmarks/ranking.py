"""Measures the ranking of a large training set: decoding, the teacher, both at once; peak memory.

    python -m benchmarks.ranking --source=data/imagenette [--images=50000] [--json=FILE]

Images are those of a folder, over and over again until there are `--images`. Rates are in images
per second, and per second of processor time: a core's worth, whatever else the machine does. Every
measurement is a process of its own, so that its peak memory (resident set) is its own too. The
teacher has random weights, of which neither time nor memory depends.

What a data set of the size of ImageNet-1K's takes to decode is extrapolated twice: from the images
as they are, and from the same enlarged to the mean size of ImageNet-1K's photos.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from PIL import Image

from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import Batch, batches
from delt_jax.data.sources import open_source
from delt_jax.data.specs import IMAGENET_MEAN, IMAGENET_STD
from delt_jax.data.workers import available_cores, resolve_workers
from delt_jax.models import registry
from delt_jax.models.network import Network
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import ranking

IMAGENET_IMAGES = 1_281_167
IMAGENET_SIDES = (469, 387)  # width and height, the mean of the training photos
SIZE = 224
FEW = 1000  # images of the run that a long one's memory is compared with
CHANNELS = (IMAGENET_MEAN, IMAGENET_STD)


class Repeated:
    """A source over and over again, under new names."""

    def __init__(self, source: ImageSource, count: int):
        self._source = source
        self._length = len(source)
        self.labels = source.labels[np.arange(count) % self._length]
        self.names = tuple(
            f"{source.names[i % self._length]}.{i // self._length}" for i in range(count)
        )
        self.class_names, self.split = source.class_names, source.split

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._source[index % self._length]


def enlarge(source: ImageSource, folder: pathlib.Path, count: int = 200) -> ImageSource:
    """Writes some images as JPEGs of ImageNet-1K's mean size, about as large as its files."""
    for index in np.linspace(0, len(source) - 1, count).astype(int).tolist():
        image = Image.fromarray(source[index]).resize(IMAGENET_SIDES, Image.Resampling.BICUBIC)
        path = folder / "train" / source.names[index]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path.with_suffix(".jpg"), quality=95)
    return open_source("own", str(folder), "train")


def random_teacher(arch: str, num_classes: int) -> Network:
    module = registry.create(arch, num_classes, SIZE)
    variables = registry.initialise(module, SIZE, stream(0, "benchmark"))
    return Network(arch, num_classes, SIZE, variables, *CHANNELS)


def decode_alone(source: ImageSource, args: argparse.Namespace) -> Callable[[], None]:
    def run() -> None:
        for _ in batches(source, None, args.batch_size, SIZE, workers=args.workers):
            pass

    return run


def teacher_alone(source: ImageSource, args: argparse.Namespace) -> Callable[[], None]:
    """One batch again and again, as often as it takes for so many images."""
    teacher = random_teacher(args.arch, len(source.class_names))
    score = ranking.scorer(teacher, CHANNELS, SIZE, args.batch_size, None)
    batch: Batch = next(batches(source, np.arange(args.batch_size), args.batch_size, SIZE))
    jax.block_until_ready(score(batch))  # compiled

    def run() -> None:
        for _ in range(len(source) // args.batch_size):
            jax.block_until_ready(score(batch))

    return run


def both(source: ImageSource, args: argparse.Namespace) -> Callable[[], None]:
    """The ranking as the select stage runs it, compilation included."""
    teacher = random_teacher(args.arch, len(source.class_names))

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            ranking.rank(
                *(teacher, source, CHANNELS, args.batch_size, SIZE, WorkDir(folder)),
                workers=args.workers,
            )

    return run


PARTS = {"decode": decode_alone, "enlarged": decode_alone, "teacher": teacher_alone, "both": both}


def measure(part: str, args: argparse.Namespace) -> dict[str, float]:
    """Runs one measurement in this process."""
    source = open_source("own", args.source, "train")
    with tempfile.TemporaryDirectory() as folder:
        if part == "enlarged":
            source = enlarge(source, pathlib.Path(folder))
        run = PARTS[part](Repeated(source, args.images), args)
        used, start = processor_seconds(), time.monotonic()
        run()
        seconds, used = time.monotonic() - start, processor_seconds() - used
    return {
        "images": args.images,
        "seconds": seconds,
        "images_per_second": args.images / seconds,
        "images_per_core_second": args.images / used,
        "peak_bytes": peak_bytes(resource.RUSAGE_SELF),
        "peak_bytes_of_a_worker": peak_bytes(resource.RUSAGE_CHILDREN),
    }


def processor_seconds() -> float:
    """Of this process and of workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_bytes(who: int) -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit


def measure_apart(part: str, images: int, args: argparse.Namespace) -> dict[str, float]:
    """Runs one measurement in a new process."""
    values = {**vars(args), "images": images, "part": part, "json": None}
    command = [sys.executable, "-m", "benchmarks.ranking"]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    few = min(args.images, args.rate_images)
    result: dict[str, Any] = {part: measure_apart(part, few, args) for part in PARTS}
    result["few"] = measure_apart("both", FEW, args)
    result["many"] = measure_apart("both", args.images, args)
    source = open_source("own", args.source, "train")
    packages = ("grain", "jax", "numpy", "pillow")
    return {
        "arch": args.arch,
        "batch_size": args.batch_size,
        "cores": available_cores(),
        "workers": resolve_workers(args.workers, Repeated(source, args.images)),
        "device": jax.devices()[0].device_kind,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "measured": result,
        "imagenet_decode_core_hours": {
            part: IMAGENET_IMAGES / result[part]["images_per_core_second"] / 3600
            for part in ("decode", "enlarged")
        },
        "peak_ratio": result["many"]["peak_bytes"] / result["few"]["peak_bytes"],
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table of text."""
    names = {
        "decode": f"decoding alone, {SIZE} px",
        "enlarged": "decoding alone, {} x {} px".format(*IMAGENET_SIDES),
        "teacher": f"{result['arch']} alone",
        "both": f"both, {SIZE} px",
        "few": "both",
        "many": "both",
    }
    lines = [f"{'':32}{'images':>9}{'images/s':>10}{'per core':>10}{'peak MB':>9}"]
    for part, row in result["measured"].items():
        lines.append(
            f"{names[part]:32}{row['images']:9,}{row['images_per_second']:10.1f}"
            f"{row['images_per_core_second']:10.1f}{row['peak_bytes'] / 1e6:9.0f}"
        )
    hours = result["imagenet_decode_core_hours"]
    lines.append(
        f"{IMAGENET_IMAGES:,} images: {hours['decode']:.2f} core-hours to decode at {SIZE} px, "
        f"{hours['enlarged']:.2f} at ImageNet-1K's mean size"
    )
    lines.append(f"peak memory of the long run: {result['peak_ratio']:.3f} of the short one's")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.ranking")
    flag = parser.add_argument
    flag("--source", required=True, help="a folder with train/, of class folders")
    flag("--arch", default="conv3_w32", help="the teacher")
    flag("--images", type=int, default=50_000, help="of the long run")
    flag("--rate-images", type=int, default=2000, help="of the others")
    flag("--batch-size", type=int, default=100, help="as select.batch_size")
    flag("--workers", type=int, default=0, help="as data.workers")
    flag("--json", type=pathlib.Path, help="file for what was measured")
    flag("--part", choices=PARTS, help="one measurement, in this process; prints JSON")
    args = parser.parse_args()
    if args.part:
        print(json.dumps(measure(args.part, args)))
        return
    result = measure_all(args)
    print(table(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
