"""Writes goldens/ARCH.npz from torch: `python tests/models/make_goldens.py [ARCH ...]`."""

import pathlib
import sys

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).parents[up]) for up in (0, 1, 2)]

# pytest puts these folders on the path; this script has to.
from parity import GOLDENS, SIDES, summarise  # noqa: E402
from torch_networks import theirs  # noqa: E402

from benchmarks.torchvision_import import import_torchvision  # noqa: E402


def main(archs: list[str]) -> None:
    torchvision = import_torchvision()
    for arch in archs or SIDES:
        path = GOLDENS / f"{arch}.npz"
        np.savez_compressed(path, **summarise(theirs(arch, torchvision)))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
