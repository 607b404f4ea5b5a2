"""One .npz archive, with the keys that `data.source` of this package reads."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from delt_jax.export.distilled_set import DistilledSet

LOADING = """
import numpy as np
with np.load("distilled.npz") as data:  # holds no pickled object
    images, labels = data["x_train"], data["y_train"]  # uint8 [n, h, w, 3], int64 [n]
    class_names = data["class_names"]
"""


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes `distilled.npz`.

    It holds `x_train` uint8 `[n, h, w, 3]`, `y_train` int64 `[n]`, `class_names` texts `[k]`, and
    with soft labels `logits_train` float32 `[n, k]`; `x_test` and `y_test` are for others to add.

    Args:
      source: the distilled set.
      destination: a new folder.
      options: reads `labels` ("soft" adds the logits).

    Raises:
      InputError: as `DistilledSet.logits`.
    """
    arrays: dict[str, Any] = {
        "x_train": source.images,
        "y_train": source.labels,
        "class_names": np.asarray(source.class_names),
    }
    if options["labels"] == "soft":
        arrays["logits_train"] = source.logits()
    np.savez_compressed(destination / "distilled.npz", **arrays)
