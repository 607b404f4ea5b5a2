"""How fast a distilled set is read, on how many cores, and what memory it takes.

    python -m benchmarks.reading --images=50000 --side=224

Writes that many JPEGs of noise into a temporary folder, reads them with `read_distilled` in a
process of its own, and deletes them. Noise is the worst case: JPEG hardly compresses it.
"""

import argparse
import hashlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from delt_jax.data.workers import available_cores
from delt_jax.export.image_folder import encode, read_distilled
from delt_jax.export.manifest import ImageRecord, write_manifest

DISTINCT = 200  # images that are encoded; the others are copies of them


def write_noise(folder: pathlib.Path, images: int, side: int) -> None:
    """Writes a distilled set of noise in classes of 50."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (min(DISTINCT, images), side, side, 3), np.uint8)
    files = [encode(image, "jpg", 75) for image in noise]
    hashes = [hashlib.sha256(data).hexdigest() for data in files]
    records = []
    for number in range(images):
        label, slot = divmod(number, 50)
        file = f"train/{label:04d}/{slot:03d}.jpg"
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[number % len(files)])
        digest = hashes[number % len(files)]
        records.append(ImageRecord(label, f"{label:04d}", slot, file=file, sha256=digest))
    write_manifest(folder, records, {})


def read(folder: pathlib.Path) -> dict[str, float]:
    """Reads the set; returns what it took of this process."""
    held = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.monotonic()
    images, _, _ = read_distilled(folder)
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss * 1024 - held
    return {
        "images": len(images),
        "pixels_gb": images.nbytes / 1e9,
        "peak_gb": peak / 1e9,
        "peak_over_pixels": peak / images.nbytes,
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
        "cpu_seconds": cpu,
        "cores_used": cpu / seconds,
        "cores": available_cores(),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Writes, reads, prints and deletes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=50_000, help="how many")
    parser.add_argument("--side", type=int, default=224, help="in pixels")
    parser.add_argument("--read", type=pathlib.Path, help="read this set and say what it took")
    args = parser.parse_args()
    if args.read:
        print(json.dumps(read(args.read), indent=2))
        return
    with tempfile.TemporaryDirectory(prefix="delt_jax-reading-") as folder:
        write_noise(pathlib.Path(folder), args.images, args.side)
        command = [sys.executable, "-m", "benchmarks.reading", "--read", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
