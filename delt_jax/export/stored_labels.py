"""Stored soft labels: labels/epoch_0000.safetensors and so on, a file for each epoch.

A file holds

    order     [n]     int32    in which the images, numbered by class, then rank, are shown
    crops     [n, 4]  int16    top, left, height, width; row i of this and the others is of image i
    flips     [n]     uint8    1: left and right exchanged after the crop is resized
    partners  [n]     int32    the image whose own view is pasted into this one
    patches   [n, 4]  int16    top, left, bottom, right of what is pasted; empty: nothing is
    logits    [n, k]  float16  the teacher's of the mixed image, at temperature 1

and as its metadata the schema, the epoch, the classes k and the fingerprint of all that decides the
labels. `config.labels` may ask for fewer or smaller logits: see `delt_jax.export.label_coding`.

`labels.json` beside them, which relabel writes last, says what they are: `read_record`.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import safetensors
from jaxtyping import Int

from delt_jax.core.augment.stored_views import StoredLabels, StoredViews
from delt_jax.errors import InputError
from delt_jax.export.label_coding import PLAIN, LabelCoding, decode
from delt_jax.export.tensor_file import tensor_file
from delt_jax.runtime.workdir import WorkDir, write_atomically

SCHEMA = "delt_jax/stored_labels/1"
VIEW_BYTES = 4 + 4 * 2 + 1 + 4 + 4 * 2  # of an image: all but its logits
RECORD = "labels.json"


@dataclasses.dataclass(frozen=True)
class LabelFiles:
    """The files of one set's stored labels.

    Attributes:
      folder: that they lie in.
      epochs: how many there are, or are to be.
      fingerprint: of all that decides them.
      coding: how their logits are kept.
    """

    folder: pathlib.Path
    epochs: int
    fingerprint: str
    coding: LabelCoding = PLAIN

    def path(self, epoch: int) -> pathlib.Path:
        """The file of an epoch, from 0."""
        return self.folder / f"epoch_{epoch:04d}.safetensors"

    def bytes(self) -> int:
        """Of all files."""
        return sum(self.path(epoch).stat().st_size for epoch in range(self.epochs))

    def write(self, epoch: int, order: Int[np.ndarray, " n"], labels: StoredLabels) -> None:
        """Writes an epoch, whole or not at all."""
        tensors = {
            "order": order,
            **labels.views._asdict(),
            **self.coding.encode(np.asarray(labels.logits)),
        }
        metadata = {**self._metadata(epoch), "classes": str(labels.logits.shape[1])}
        write_atomically(self.path(epoch), tensor_file(tensors, metadata))

    def holds(self, epoch: int) -> bool:
        """Whether the epoch is there, made from the same inputs, and can be read."""
        try:
            with safetensors.safe_open(self.path(epoch), "np") as file:
                return self._is_own(file.metadata(), epoch)
        except (OSError, safetensors.SafetensorError):
            return False

    def read(self, epoch: int) -> tuple[Int[np.ndarray, " n"], StoredLabels]:
        """The order of an epoch, and its labels.

        Raises:
          InputError: where the file is missing, damaged, or made from other inputs.
        """
        found, classes = self._load(epoch)
        views = StoredViews(*(found[name] for name in StoredViews._fields))
        logits: Any = decode(found, classes)
        return found["order"], StoredLabels(views, logits)

    def read_encoded(
        self, epoch: int
    ) -> tuple[Int[np.ndarray, " n"], StoredViews, dict[str, np.ndarray]]:
        """The order and views of an epoch, and the logits as they are kept; see `read`."""
        found, _ = self._load(epoch)
        order = found.pop("order")
        views = StoredViews(*(found.pop(name) for name in StoredViews._fields))
        return order, views, found

    def _load(self, epoch: int) -> tuple[dict[str, Any], int]:
        """All tensors of an epoch, and how many classes there are."""
        path = self.path(epoch)
        try:
            with safetensors.safe_open(path, "np") as file:
                metadata = file.metadata()
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); expected what --stages=relabel writes"
            ) from None
        if not self._is_own(metadata, epoch):
            raise InputError(
                f"{path}: stored labels of another set, teacher or options; expected those that "
                "--stages=relabel writes now"
            )
        return found, int(metadata["classes"])

    def _is_own(self, metadata: dict[str, str] | None, epoch: int) -> bool:
        return self._metadata(epoch).items() <= (metadata or {}).items()

    def _metadata(self, epoch: int) -> dict[str, str]:
        return {"schema": SCHEMA, "epoch": str(epoch), "fingerprint": self.fingerprint}


def stored_bytes(epochs: int, images: int, classes: int, coding: LabelCoding = PLAIN) -> int:
    """Bytes of all files, their headers left out."""
    return epochs * images * (VIEW_BYTES + coding.image_bytes(classes))


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """What labels.json says, of which `stored` tells what the files hold.

    Raises:
      InputError: where there is none, or it says that no labels are stored.
    """
    path = folder / RECORD
    record = WorkDir(folder).read_json(path) if path.exists() else {}
    if record.get("mode") != "stored":
        found = f"mode {record.get('mode')!r}" if record else "not there"
        raise InputError(
            f"{path}: {found}; expected stored labels, which --stages=relabel writes with "
            "--config.evaluate.labels=\"('stored',)\""
        )
    return record


def open_files(folder: pathlib.Path) -> tuple[LabelFiles, dict[str, Any]]:
    """The files of a folder of stored labels as its record tells them, and the record.

    Raises:
      InputError: as `read_record`.
    """
    record = read_record(folder)
    stored = record["stored"]
    return LabelFiles(folder, stored["epochs"], stored["fingerprint"]), record
