"""A distilled set as exports read it: files, pixels, labels, and the run that made it."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from delt_jax.data.decoding import decode
from delt_jax.data.image_source import distinct
from delt_jax.data.specs import Channels, find_spec, get_spec, statistics
from delt_jax.errors import InputError
from delt_jax.export.image_folder import encode, read_distilled
from delt_jax.export.manifest import EXPORT, FILE_NAME, ImageRecord, read_file, read_manifest
from delt_jax.runtime.workdir import WorkDir, expanded


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """A distilled set on disk; images are in the order of its manifest, by class, then slot.

    Attributes:
      directory: with the manifest and, below it, the images.
      workdir: of the run that made it; None where the folder was moved away from it.
      header: of the manifest: method, data, ipc, teacher, mean, std, synthesis.
      records: one per image.
    """

    directory: pathlib.Path
    workdir: WorkDir | None
    header: dict[str, Any]
    records: tuple[ImageRecord, ...]

    @classmethod
    def open(cls, source: str | pathlib.Path) -> "DistilledSet":
        """Opens a work directory, its `distilled/`, or an export of the format image_folder.

        Raises:
          InputError: where there is no distilled set, or classes of it have no image.
        """
        path = expanded(source)
        workdir = None
        if not (path / FILE_NAME).is_file() and (path / "distilled" / FILE_NAME).is_file():
            workdir, path = WorkDir(path), path / "distilled"
        elif path.resolve().name == "distilled":
            around = WorkDir(path.resolve().parent)
            workdir = around if around.config_json.is_file() else None
        if not (path / FILE_NAME).is_file():
            raise InputError(
                f"{path}: no {FILE_NAME}; expected a work directory in which stage synthesize is "
                "done, or a distilled folder"
            )
        manifest = read_manifest(path)
        made = manifest.header.get(EXPORT) or {"format": "image_folder"}
        if not isinstance(made, dict) or made.get("format") != "image_folder":
            raise InputError(
                f"{path}: an export that holds no image files; expected the work directory or the "
                "distilled folder that it was made from"
            )
        classes = sorted({record.class_index for record in manifest.records})
        if not classes or classes != list(range(len(classes))):
            absent = next((k for k in range(len(classes)) if k != classes[k]), 0)
            raise InputError(f"{path}: no image of class {absent}; expected some of every class")
        return cls(path, workdir, manifest.header, manifest.records)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Of all classes, in label order, no two alike."""
        names = {record.class_index: record.class_name for record in self.records}
        return distinct(names[index] for index in range(len(names)))

    @functools.cached_property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """The class of each image."""
        return np.asarray([record.class_index for record in self.records], np.int64)

    @functools.cached_property
    def images(self) -> UInt8[np.ndarray, "n s s 3"]:
        """The pixels, to be read alone; each file is checked against its hash."""
        return read_distilled(self.directory, shared=True)[0]

    def file(self, number: int, encoding: str = "", quality: int = 95) -> tuple[ImageRecord, bytes]:
        """One image file, checked against its hash.

        Args:
          number: of the image.
          encoding: "" gives the bytes as they are; "png" or "jpg" converts those of the other kind.
          quality: of files that become JPEG.

        Returns:
          (record, bytes); the suffix of the record's `file` is that of the bytes.
        """
        record = self.records[number]
        data = read_file(self.directory, record)
        path = pathlib.PurePosixPath(record.file)
        if encoding and path.suffix != f".{encoding}":
            data = encode(decode(data, record.file), encoding, quality)
            record = dataclasses.replace(record, file=str(path.with_suffix(f".{encoding}")))
        return record, data

    def files(self, encoding: str = "", quality: int = 95) -> Iterator[tuple[ImageRecord, bytes]]:
        """All image files one by one, as `file` gives them."""
        for number in range(len(self.records)):
            yield self.file(number, encoding, quality)

    def statistics(self, choice: str) -> tuple[Channels, Channels]:
        """The (mean, std) that a choice of `delt_jax.data.specs.statistics` stands for.

        Args:
          choice: "teacher": what the images were optimised under; "dataset", "imagenet", or numbers
            as "0.5/0.25".

        Raises:
          InputError: for any other, or where the manifest does not name data or statistics.
        """
        if choice == "teacher" and not {"mean", "std"} <= self.header.keys():
            raise InputError(
                f"{self.directory / FILE_NAME}: no mean and std; expected statistics other than "
                "'teacher': dataset, imagenet, or numbers as mean/std"
            )
        own = (self.header.get("mean", ()), self.header.get("std", ()))
        name = str(self.header.get("data", ""))
        if choice == "dataset":
            get_spec(name)  # raises for a set of one's own, whose statistics are not in the table
        spec = find_spec(name) or get_spec("digits")  # of which the other choices take nothing
        return statistics(choice, spec, own)

    def logits(self) -> Float32[np.ndarray, "n k"]:
        """The teacher's logits of every image as it is, at temperature 1.

        Raises:
          InputError: where the run's teacher is not there, or has other classes.
        """
        if self.workdir is None:
            raise InputError(
                f"{self.directory}: soft labels need the teacher; expected the work directory of "
                "the run, which has it"
            )
        # Slow to import, and only soft labels need them.
        from delt_jax.core import programs
        from delt_jax.core.augment.views import Statistics
        from delt_jax.models.network import load_network

        network = load_network(self.workdir.teacher)
        if network.num_classes != len(self.class_names):
            raise InputError(
                f"{self.workdir.teacher}: {network.num_classes} classes; expected "
                f"{len(self.class_names)}, as {self.directory} has"
            )
        program = programs.inference_program(network.module.apply)
        moments = Statistics.of(network.mean, network.std)
        return programs.apply_in_batches(
            lambda part: program(network.variables, part, moments), self.images
        )
