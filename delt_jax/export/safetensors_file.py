"""One .safetensors file: pixels as bytes, labels, and the statistics to normalise with."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from delt_jax.export.distilled_set import DistilledSet
from delt_jax.runtime import strict_json

LOADING = """
from safetensors.torch import load_file  # or safetensors.numpy
data = load_file("distilled.safetensors")
mean, std = data["mean"].view(1, 3, 1, 1), data["std"].view(1, 3, 1, 1)
images, labels = (data["images"] / 255 - mean) / std, data["labels"]
"""


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes `distilled.safetensors`.

    It holds `images` uint8 `[n, 3, h, w]`, `labels` int64 `[n]`, `mean` and `std` float32 `[3]`,
    with soft labels `logits` float32 `[n, k]`, and as its metadata `class_names`, JSON.

    Args:
      source: the distilled set.
      destination: a new folder.
      options: reads `statistics` and `labels` ("soft" adds the logits).

    Raises:
      InputError: as `DistilledSet.statistics` and `.logits`.
    """
    mean, std = (np.asarray(v, np.float32) for v in source.statistics(options["statistics"]))
    tensors = {
        "images": np.ascontiguousarray(source.images.transpose(0, 3, 1, 2)),
        "labels": source.labels,
        "mean": mean,
        "std": std,
    }
    if options["labels"] == "soft":
        tensors["logits"] = source.logits()
    metadata = {"class_names": strict_json.dumps(source.class_names, ensure_ascii=False)}
    data = safetensors.numpy.save(tensors, metadata)
    (destination / "distilled.safetensors").write_bytes(data)
