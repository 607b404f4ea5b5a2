"""The data set that a config names, opened for a stage."""

from typing import Any

import numpy as np

from delt_jax.data import sources
from delt_jax.data.image_source import ImageSource
from delt_jax.data.selection import Subset
from delt_jax.data.sources import Split
from delt_jax.data.specs import DatasetSpec
from delt_jax.stages.cropped_images import CroppedImages


def describe(config: Any) -> DatasetSpec:
    """What is known of `config.data.{name,source,image_size}`; see `delt_jax.data.sources`."""
    data = config.data
    return sources.describe(data.name, data.source or "", data.image_size or None)


def open_split(
    config: Any, spec: DatasetSpec, split: Split, image_size: int | None = None
) -> ImageSource:
    """Opens a split of `config.data`, cut to `data.images_per_class` where that is set.

    Args:
      config: reads `data.{source,images_per_class}`.
      spec: from `describe`; of a data set of one's own it costs a pass over the names.
      split: "train" or "test".
      image_size: as for `delt_jax.data.sources.open_source`; None for the spec's.
    """
    most = config.data.images_per_class
    source = sources.open_source(
        spec, config.data.source or "", split, image_size or spec.image_size
    )
    return evenly_spaced(source, most) if most else source


def open_test(config: Any, spec: DatasetSpec) -> CroppedImages:
    """The centre crops that networks are tested on; reads `config.data`."""
    return CroppedImages(
        open_split(config, spec, "test"),
        spec.image_size,
        strict=bool(config.data.strict),
        workers=config.data.workers,
    )


def evenly_spaced(source: ImageSource, most: int) -> ImageSource:
    """Cuts every class to at most so many images, evenly spaced in the order of the source."""
    chosen = []
    for label in range(len(source.class_names)):
        members = np.flatnonzero(source.labels == label)
        count = min(most, len(members))
        chosen.append(members[np.arange(count) * len(members) // max(count, 1)])
    return Subset(source, np.sort(np.concatenate(chosen)))
