"""The sets that students learn from: the distilled images, and real ones of the same number."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.data import unreadable
from delt_jax.data.decoding import decode
from delt_jax.data.image_source import ImageSource
from delt_jax.data.patches import initial_images
from delt_jax.data.selection import Selection, read_selection, selection_indices
from delt_jax.data.specs import DatasetSpec
from delt_jax.data.threads import for_each
from delt_jax.errors import InputError
from delt_jax.export.image_folder import encode
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.distilled_images import distilled_images
from delt_jax.stages.opening import open_split

SETS = ("distilled", "selected", "random")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingSet:
    """The images that a student learns from, by class, then rank."""

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int64[np.ndarray, " n"]


def open_sets(
    config: Any, workdir: WorkDir, spec: DatasetSpec
) -> dict[str, Callable[[int], TrainingSet]]:
    """For each set that is asked for, its images as a function of the student's seed.

    Args:
      config: reads `ipc`, `data`, `distilled.{format,quality}` and `evaluate.sets`.
      workdir: reads the distilled images, the selection, the names of images that cannot be read.
      spec: the data set.

    Raises:
      InputError: where one of them is missing, damaged or not what the config says.
    """
    sets: dict[str, Callable[[int], TrainingSet]] = {}
    names, ipc, size = config.evaluate.sets, config.ipc, spec.image_size
    if "distilled" in names:
        images, labels = distilled_images(workdir)
        counts = np.bincount(labels, minlength=spec.num_classes)
        if images.shape[1:] != (size, size, 3) or len(counts) != spec.num_classes:
            raise InputError(
                f"{workdir.distilled}: {len(counts)} classes of {images.shape[2]} x "
                f"{images.shape[1]} pixels; expected {spec.num_classes} of {size} x {size}"
            )
        if set(counts) != {ipc}:
            raise InputError(
                f"{workdir.distilled}: {min(counts)} to {max(counts)} images per class; expected "
                f"ipc = {ipc}"
            )
        distilled = TrainingSet(images, labels)
        sets["distilled"] = lambda seed: distilled
    if {"selected", "random"} & set(names):
        source = open_split(config, spec, "train")

        def real(selection: Selection) -> TrainingSet:
            return _real_images(source, selection, ipc, size, config.distilled)

        if "selected" in names:
            chosen = read_selection(workdir.selection_csv, source)
            if chosen.ipc < ipc:
                raise InputError(
                    f"{workdir.selection_csv}: {chosen.ipc} images per class; expected at "
                    f"least ipc = {ipc}"
                )
            selected = real(chosen)
            sets["selected"] = lambda seed: selected
        if "random" in names:
            unranked = np.zeros(len(source))
            found = unreadable.read(workdir)
            left_out = {name for split, name, _ in found if split in ("", source.split)}
            readable = np.asarray([name not in left_out for name in source.names])

            def draw(seed: int) -> TrainingSet:
                indices = selection_indices(source, unranked, "random", ipc, seed, among=readable)
                return real(Selection(indices, unranked[indices]))

            sets["random"] = draw
    return {name: sets[name] for name in names}


def _real_images(
    source: ImageSource, selection: Selection, ipc: int, size: int, stored: Any
) -> TrainingSet:
    """The first IPC initial images of each class, with what JPEG does where it is used."""
    labels, ranks = np.divmod(np.arange(len(selection.indices) * selection.ipc), selection.ipc)
    slots = np.flatnonzero(ranks < ipc)
    images = initial_images(source, selection, size, slots)
    if stored.format == "jpg":

        def compress(place: int) -> None:
            images[place] = decode(encode(images[place], stored.format, stored.quality), "image")

        for_each(len(images), compress)
    return TrainingSet(images, labels[slots])
