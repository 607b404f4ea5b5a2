"""A distilled set in memory: arrays, pictures, and the files that they were read from."""

import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from delt_jax.api.foreign_sets import Choice, copy_arrays, copy_folder
from delt_jax.api.mosaic import mosaic
from delt_jax.errors import InputError
from delt_jax.export.formats import export
from delt_jax.export.image_folder import read_distilled
from delt_jax.export.manifest import FILE_NAME, ImageRecord, read_manifest
from delt_jax.runtime.workdir import WorkDir, expanded


class Distilled:
    """Distilled images, by class, then rank.

    Attributes:
      images: uint8 `[n, s, s, 3]`, as they are stored.
      labels: int64 `[n]`.
      class_names: of all classes, in label order.
      join_rounds: int64 `[n]`, the round in which the optimisation of each image began.
      iterations: int64 `[n]`, how many it was optimised for.
      sources: `[n]`, the names of the real images that they began as; "" for noise.
      initial: uint8 `[n, s, s, 3]`, those images; None for noise, and for a set that was loaded.
      log: what `metrics.jsonl` of a run holds of the synthesis, a dict every `log_every`
        iterations: class_batch, round, iteration, active (images), loss, loss_ce, loss_bn. ()
        for a set that was loaded.
      header: of the manifest: method, teacher, settings, input statistics.
      folder: where the files are: an ImageFolder with its manifest.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        initial: UInt8[np.ndarray, "n s s 3"] | None = None,
        log: Sequence[Mapping[str, Any]] = (),
    ):
        self.folder, self.initial, self.log = folder, initial, tuple(log)
        self.header = read_manifest(folder).header
        self.images: UInt8[np.ndarray, "n s s 3"]
        self.labels: Int64[np.ndarray, " n"]
        self.images, self.labels, records = read_distilled(folder)
        self._records: tuple[ImageRecord, ...] = records
        names = {record.class_index: record.class_name for record in records}
        self.class_names = tuple(names.get(k, str(k)) for k in range(max(names) + 1))
        self.join_rounds = np.asarray([record.join_round for record in records], np.int64)
        self.iterations = np.asarray([record.iterations for record in records], np.int64)
        self.sources = tuple(record.source for record in records)

    @classmethod
    def kept(
        cls,
        made: pathlib.Path,
        initial: UInt8[np.ndarray, "n s s 3"] | None,
        log: Sequence[Mapping[str, Any]],
    ) -> "Distilled":
        """Moves a set out of a work directory; its files live as long as the object."""
        home = tempfile.mkdtemp(prefix="delt_jax-")
        shutil.move(made, home)
        distilled = cls(pathlib.Path(home) / made.name, initial, log)
        weakref.finalize(distilled, shutil.rmtree, home, ignore_errors=True)
        return distilled

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        side = f"{self.images.shape[1]} x {self.images.shape[2]}"
        rounds = len(np.unique(self.join_rounds))
        joined = f", joined in {rounds} rounds" if rounds > 1 else ""
        return f"Distilled({len(self):,} images of {side}, {len(self.class_names)} classes{joined})"

    def show(
        self, per_class: int = 10, classes: int = 10, *, beside_initial: bool = False
    ) -> Image.Image:
        """A picture: a class a row, its images by rank, so that those that joined last are right.

        Args:
          per_class: at most so many images of a class.
          classes: at most so many classes.
          beside_initial: above each class the images that it began as.

        Raises:
          InputError: where these are asked for and not there.
        """
        if beside_initial and self.initial is None:
            raise InputError("initial images: there are none of noise, or of a set that was loaded")
        rows = []
        for label in np.unique(self.labels)[:classes]:
            chosen = np.flatnonzero(self.labels == label)[:per_class]
            if beside_initial and self.initial is not None:
                rows.append(self.initial[chosen])
            rows.append(self.images[chosen])
        return mosaic(rows)

    def _repr_png_(self) -> bytes | None:
        return self.show()._repr_png_()

    def save(
        self,
        destination: str | os.PathLike[str],
        formats: str | Sequence[str] = ("image_folder",),
        **options: Any,
    ) -> dict[str, pathlib.Path]:
        """Writes the set for others to read: a folder for each format, with manifest and card.

        Args:
          destination: the folder in which those of the formats lie.
          formats: "image_folder", "tensors", "safetensors", "npz", "webdataset", "huggingface",
            "array_record"; see docs/formats.md.
          **options: of `delt_jax.export.formats.OPTIONS`, e.g. `encoding="png"`.

        Returns:
          The folder of each format.

        Raises:
          InputError: for a format or option that there is not, or a destination that holds
            something else.
        """
        names = (formats,) if isinstance(formats, str) else tuple(formats)
        return export(self.folder, pathlib.Path(destination), names, options)


def load_distilled(
    folder: str | os.PathLike[str], *, statistics: Choice | None = None
) -> Distilled:
    """Opens distilled images: of a run, of `Distilled.save`, or of another program.

    Files that a manifest names are checked against their hashes. Sets without a manifest are
    copied to a folder that lives as long as the object; their method is "unknown".

    >>> import tempfile
    >>> import delt_jax
    >>> train, _ = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> photos = delt_jax.synthesize(teacher, train, ipc=1, iterations=0, early_late=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = photos.save(folder)
    ...     again = delt_jax.load_distilled(written["image_folder"])
    >>> bool((again.images == photos.images).all())
    True

    Args:
      folder: a work directory, its `distilled/`, an exported ImageFolder; any other ImageFolder,
        whose classes are its sorted folders; or an `.npz`, `.safetensors` or `.pt` file of images
        and labels.
      statistics: what the images of such a file were normalised with: a name of the table of data
        sets, "imagenet", numbers as "mean/std", or the pair (mean, std); None for pixels, which are
        uint8 or from 0 to 1.

    Raises:
      InputError: where there are no such images, a file is missing or was changed, or values are no
        pixels (whitened ones).
    """
    path = expanded(folder)
    for place in (path / "distilled", path):
        if (place / FILE_NAME).is_file():
            return Distilled(place)
    run = WorkDir(path.parent if path.name == "distilled" else path)
    if run.config_json.is_file():
        raise InputError(f"{run.path}: no distilled images yet; expected stage synthesize done")
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected distilled images")
    with tempfile.TemporaryDirectory(prefix="delt_jax-") as scratch:
        made = pathlib.Path(scratch) / "distilled"
        if path.is_dir():
            copy_folder(path, made)
        else:
            copy_arrays(path, made, statistics)
        return Distilled.kept(made, None, ())
