"""The format `fkd`: the images, and their stored labels as SRe2L's loader reads them.

    train/<class>/...                the images, as they are in the distilled set
    labels/epoch_<e>/batch_<b>.tar   of a batch, with torch.save (it is no tar):
                                     [coords, flips, permutation, lambda, box, logits]

Source: `ImageFolder_FKD_MIX` of VILA-Lab/SRe2L at 8d00cba, SRe2L/relabel/utils_fkd.py. Its loader
draws the order of the images from a seed of its own, takes the batch sizes from the files, and
counts as an epoch whatever lies in `labels/`: nothing else may.
"""

import itertools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from delt_jax.core.augment.stored_views import StoredLabels
from delt_jax.core.torch_order import FKD_SEED, sampler_orders
from delt_jax.errors import InputError
from delt_jax.export.compact_labels import copy_images, labels_of
from delt_jax.export.stored_labels import LabelFiles

if TYPE_CHECKING:
    from delt_jax.export.distilled_set import DistilledSet

MOST_PER_CLASS = 1_000  # names of images have three digits, and are sorted as text
FILE_BYTES = 2_200  # of a batch's file beside its tensors, by torch.save
LOADING = """
import torch
batch = torch.load("labels/epoch_0/batch_0.tar", weights_only=True)
coords, flips, permutation, kept, box, logits = batch
# SRe2L's loader: train_FKD.py --train-dir=train --fkd-path=labels/ --mix-type=cutmix ...; the
# last / is needed. docs/labels.md of delt_jax has the rest.
"""


def write(source: "DistilledSet", destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes images and labels.

    Args:
      source: with the work directory of its run, which has the labels.
      destination: a new folder.
      options: none.

    Raises:
      InputError: where PyTorch is not installed; where no labels are stored, they are damaged, or
        in an order that their loader does not draw; where the images sort in another order by name.
    """
    files, record = labels_of(source)
    names = [pathlib.PurePosixPath(record.file).parts for record in source.records]
    if names != sorted(names):
        first = next(name for name, other in zip(names, sorted(names)) if name != other)
        raise InputError(
            f"{source.directory / '/'.join(first)}: sorted by name the images come in another "
            f"order than by class and slot; expected at most {MOST_PER_CLASS:,} images a class"
        )
    write_labels(files, record, destination / "labels")
    copy_images(source, destination)


def write_labels(files: LabelFiles, record: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes the files of the batches.

    Args:
      files: of the stored labels.
      record: their labels.json.
      folder: to be made.

    Raises:
      InputError: see `write`.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            "format fkd: needs PyTorch to write its files; expected pip install 'delt_jax[torch]'"
        ) from None
    stored = record["stored"]
    check_order(stored["order_seed"])
    count, batch_size = stored["images"], stored["batch_size"]
    orders = itertools.islice(sampler_orders(FKD_SEED, count), files.epochs)
    for epoch, order in enumerate(orders):
        kept, labels = files.read(epoch)
        assert (kept == order).all()  # the seed says so
        inside = folder / f"epoch_{epoch}"
        inside.mkdir(parents=True)
        for number, start in enumerate(range(0, count, batch_size)):
            batch = _batch(order[start : start + batch_size], labels, stored["size"])
            tensors = [torch.from_numpy(p) if isinstance(p, np.ndarray) else p for p in batch]
            # Given the file and not its name, torch lets through what the disk says.
            with (inside / f"batch_{number}.tar").open("wb") as file:
                torch.save(tensors, file)


def check_order(order_seed: int) -> None:
    """Raises `InputError` for labels in another order than FKD's loader draws."""
    if order_seed != FKD_SEED:
        raise InputError(
            f"export fkd: labels.order_seed {order_seed}; expected {FKD_SEED}, the order that "
            "FKD's loader draws"
        )


def check_ipc(ipc: int) -> None:
    """Raises `InputError` for more images of a class than sort by their names."""
    if ipc > MOST_PER_CLASS:
        raise InputError(
            f"export fkd: ipc {ipc:,}; expected at most {MOST_PER_CLASS:,} images a class"
        )


def _batch(rows: Int[np.ndarray, " b"], labels: StoredLabels, size: int) -> list[Any]:
    """What a batch's file holds: arrays, and numbers of Python that no unpickler refuses."""
    views = labels.views
    coords = views.crops[rows].astype(np.float32) / np.float32(size)  # rows, columns, height, width
    place = {int(image): position for position, image in enumerate(rows)}
    permutation = np.array([place[int(partner)] for partner in views.partners[rows]], np.int64)
    box = [int(edge) for edge in views.patches[rows[0]]]  # of axes 2 and 3: x1, y1, x2, y2
    top, left, bottom, right = box
    # NOTE(parity): theirs is the lambda that was drawn, before the box was clipped at the border.
    # Their loader asks for a number and does nothing with it.
    kept = 1 - (bottom - top) * (right - left) / size**2
    logits = labels.logits[rows].astype(np.float16)
    return [coords, views.flips[rows].astype(bool), permutation, kept, box, logits]
