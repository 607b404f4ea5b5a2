"""The format `labels`: the images, and their stored labels in as few bytes as hold them.

    train/<class>/...                    the images, as they are in the distilled set
    labels/labels.json                   what the labels are, as relabel writes it, and `layout`
    labels/labels_00000.safetensors ...  `layout.epochs_per_file` (p) epochs each, the last fewer

A file holds, of its epochs e and the images n, numbered by class, then rank,

    crops     [e, n, 4]  top, left, bottom, right; left > right: mirrored after the crop is resized
    partners  [e, n]     the image whose own view is pasted into this one
    patch_of  [e, n]     the row of `patches` that says where
    patches   [e, b, 4]  top, left, bottom, right; empty: nothing is pasted

in the smallest unsigned integers that fit, and `logits`, `indices` and `scales` as
`delt_jax.export.label_coding` says, with the epochs as a further first axis. Epoch i is row i % p
of file i // p, so a reader takes any image of any epoch alone; the images may be taken in any order
and in batches of any size.
"""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Shaped

from delt_jax.core.augment.stored_views import StoredViews
from delt_jax.errors import InputError
from delt_jax.export.label_coding import smallest_unsigned
from delt_jax.export.manifest import read_file
from delt_jax.export.stored_labels import RECORD, LabelFiles, open_files
from delt_jax.export.tensor_file import tensor_file
from delt_jax.runtime import strict_json

if TYPE_CHECKING:
    from delt_jax.export.distilled_set import DistilledSet

LAYOUT = "delt_jax/compact_labels/1"
MEGABYTES = 256  # after which a file ends
LOADING = """
import torch
from delt_jax.torch import DistilledSet  # or copy its file, delt_jax/torch/dataset.py
data = DistilledSet(".", labels="labels")
data.set_epoch(0)  # before each one
for images, logits in torch.utils.data.DataLoader(data, batch_size=50, shuffle=True):
    ...  # float32 [b, 3, s, s], normalised; float32 [b, k], at temperature 1
"""


def write(source: "DistilledSet", destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes images and compact labels.

    Args:
      source: with the work directory of its run, which has the labels.
      destination: a new folder.
      options: reads `shard_megabytes`, after which a file of labels ends, where it is there.

    Raises:
      InputError: where no labels are stored, or they are damaged or of other images.
    """
    files, record = labels_of(source)
    copy_images(source, destination)
    write_labels(files, record, destination / "labels", options.get("shard_megabytes", MEGABYTES))


def labels_of(source: "DistilledSet") -> tuple[LabelFiles, dict[str, Any]]:
    """The stored labels of a distilled set, and their record; see `write` for errors."""
    if source.workdir is None:
        raise InputError(
            f"{source.directory}: no work directory around it; expected the one of the run, whose "
            "labels/ has the stored labels"
        )
    files, record = open_files(source.workdir.labels)
    stored = record["stored"]["images"]
    if stored != len(source.records):
        raise InputError(
            f"{files.folder}: labels of {stored} images; expected {len(source.records)}, as "
            f"{source.directory} has"
        )
    return files, record


def copy_images(source: "DistilledSet", destination: pathlib.Path) -> None:
    """Writes the image files of a distilled set, checked, under their own names."""
    for record in source.records:
        path = destination / record.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_file(source.directory, record))


def write_labels(
    files: LabelFiles, record: Mapping[str, Any], folder: pathlib.Path, megabytes: float
) -> None:
    """Writes a folder of compact labels.

    Args:
      files: of the stored labels.
      record: their labels.json.
      folder: to be made.
      megabytes: after which a file ends; it holds at least one epoch.

    Raises:
      InputError: where an epoch is missing or damaged.
    """
    folder.mkdir(parents=True)
    size = record["stored"]["size"]
    first = _compact(files, 0, size)
    per_file = int(max(1, megabytes * 1e6 // sum(array.nbytes for array in first.values())))
    per_file = min(per_file, files.epochs)
    written = 0
    for number, start in enumerate(range(0, files.epochs, per_file)):
        epochs = range(start, min(start + per_file, files.epochs))
        rows = [_compact(files, epoch, size) for epoch in epochs]
        tables = max(len(row["patches"]) for row in rows)
        for row in rows:  # epochs of fewer patches are filled up with empty ones
            filling = ((0, tables - len(row["patches"])), (0, 0))
            row["patches"] = np.pad(row["patches"], filling)
        # The dtype of patch_of may grow with the epoch; np.stack takes the largest.
        stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        metadata = {"layout": LAYOUT, "first_epoch": str(start), "fingerprint": files.fingerprint}
        data = tensor_file(stacked, metadata)
        (folder / f"labels_{number:05d}.safetensors").write_bytes(data)
        written += len(data)
    layout = {"name": LAYOUT, "epochs_per_file": per_file, "bytes": written}
    text = strict_json.dumps({**record, "layout": layout}, indent=2) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def _compact(files: LabelFiles, epoch: int, size: int) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The tensors of one epoch, without its axis."""
    _, views, logits = files.read_encoded(epoch)
    return {**compact_views(views, size), **logits}


def compact_views(views: StoredViews, size: int) -> dict[str, Int[np.ndarray, "..."]]:
    """The views of one epoch in the smallest integers, for images of `size` pixels a side."""
    crops, flips, partners, patches = map(np.asarray, views)
    top, left, height, width = crops.T
    right, flipped = left + width, flips.astype(bool)
    edges = [top, np.where(flipped, right, left), top + height, np.where(flipped, left, right)]
    table, patch_of = np.unique(patches, axis=0, return_inverse=True)
    pixels = smallest_unsigned(size)
    return {
        "crops": np.stack(edges, axis=1).astype(pixels),
        "partners": partners.astype(smallest_unsigned(len(crops) - 1)),
        "patch_of": patch_of.reshape(-1).astype(smallest_unsigned(len(table) - 1)),
        "patches": table.astype(pixels),
    }
