"""A distilled set of real digits, 16 x 16, whose class names do not sort by label."""

import pathlib

import numpy as np

from delt_jax.data.arrays import open_digits
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest

FORMATS = (  # of images alone
    "image_folder",
    "tensors",
    "safetensors",
    "npz",
    "webdataset",
    "huggingface",
    "array_record",
)
NAMES = ("zero", "one", "two")
PER_CLASS = 8
SIZE = 16
MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)


def write_digits(directory: pathlib.Path, **options) -> tuple[np.ndarray, np.ndarray]:
    """Writes the set; returns its images, uint8 [n, h, w, 3], and labels, by class."""
    source = open_digits("train", SIZE)
    numbers = [np.flatnonzero(source.labels == k)[:PER_CLASS] for k in range(len(NAMES))]
    # A third channel of its own, so that no mix-up of channels goes unseen.
    images = np.stack([source[i] for i in np.concatenate(numbers)])
    images = images.copy()
    images[..., 2] //= 2
    labels = np.repeat(np.arange(len(NAMES)), PER_CLASS)
    records = [ImageRecord(int(k), NAMES[k], slot % PER_CLASS) for slot, k in enumerate(labels)]
    header = {
        "method": "EarlyLate",
        "data": "digits",
        "ipc": PER_CLASS,
        "teacher": {"arch": "conv3_w32", "top1": 98.31},
        "mean": MEAN,
        "std": STD,
        "synthesis": {"iterations": 400, "round_iterations": 50, "early_late": True},
    }
    write_manifest(directory, write_images(directory, images, records, **options), header)
    return images, labels
