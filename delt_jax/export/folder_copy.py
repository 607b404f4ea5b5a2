"""The format image_folder: `train/<class>/class<k>_id<slot>.png` or `.jpg`, for any framework."""

import pathlib
from collections.abc import Mapping
from typing import Any

from delt_jax.export.distilled_set import DistilledSet
from delt_jax.export.image_folder import class_folders, write_file
from delt_jax.export.manifest import ImageRecord

LOADING = """
from torchvision.datasets import ImageFolder
train = ImageFolder("train")
image, label = train[0]  # a PIL image, int
train.classes[label]  # its folder
"""


def write(
    source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]
) -> tuple[ImageRecord, ...]:
    """Copies or converts the image files.

    Pixels were rounded when the set was distilled (`distilled.rounding`): a conversion to PNG keeps
    them as they are, one to JPEG rounds them to nearest, as JPEG does.

    Args:
      source: the distilled set.
      destination: a new folder.
      options: reads `encoding` ("" copies the bytes), `quality` and `naming`, see `class_folders`.

    Returns:
      The records of what was written.
    """
    folders = class_folders(source.class_names, options["naming"])
    written = []
    for record, data in source.files(options["encoding"], options["quality"]):
        suffix = pathlib.PurePosixPath(record.file).suffix
        folder = folders[record.class_index]
        written.append(write_file(destination, record, folder, suffix, data))
    return tuple(written)
