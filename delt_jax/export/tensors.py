"""The field's tensors: images_best.pt and labels_best.pt, as trajectory matching saves them."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from delt_jax.export.distilled_set import DistilledSet

LOADING = """
import torch
images = torch.load("images_best.pt", weights_only=True)  # float32 [n, 3, h, w], normalised
labels = torch.load("labels_best.pt", weights_only=True)  # int64 [n], or float32 logits [n, k]
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(images, labels), batch_size=32, shuffle=True
)
"""


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes the images, float32 `[n, 3, h, w]`, normalised, by class; and their labels.

    As GeorgeCazenavette/mtt-distillation `distill.py` at 50dccea saves them (labels int64 `[n]`),
    and as NUS-HPC-AI-Lab/DD-Ranking at b8b0966 takes them: it feeds images to networks as they are,
    so they must be normalised as its test images are (`options["statistics"]`); takes image i to be
    of class i // IPC; and takes soft labels before its softmax, so they are logits.

    Args:
      source: the distilled set.
      destination: a new folder.
      options: reads `statistics` and `labels`: "hard", the classes, or "soft", the teacher's logits
        of each image as it is.

    Raises:
      InputError: as `DistilledSet.statistics` and `.logits`.
    """
    import torch  # heavy and optional

    labels = source.logits() if options["labels"] == "soft" else source.labels
    mean, std = (np.asarray(v, np.float32) for v in source.statistics(options["statistics"]))
    count, height, width, channels = source.images.shape
    images = np.empty((count, channels, height, width), np.float32)
    for number, image in enumerate(source.images):  # one by one: a large set fits but once
        images[number] = ((image / np.float32(255) - mean) / std).transpose(2, 0, 1)
    for name, array in (("images_best.pt", images), ("labels_best.pt", labels)):
        # Given the file and not its name, torch lets through what the disk says.
        with (destination / name).open("wb") as file:
            torch.save(torch.from_numpy(array), file)
