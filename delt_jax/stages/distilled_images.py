"""The distilled images of a run, which its stages share."""

import weakref
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.export.image_folder import read_distilled
from delt_jax.runtime.workdir import WorkDir


class DistilledImages(NamedTuple):
    """The images, by class and slot, which nobody may write to, and the class of each."""

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int64[np.ndarray, " n"]


# As long as the work directory is used, so that the next stage does not decode them again.
_in_use: weakref.WeakKeyDictionary[WorkDir, DistilledImages] = weakref.WeakKeyDictionary()


def distilled_images(workdir: WorkDir) -> DistilledImages:
    """Reads the distilled images; a second stage of the same run gets the same array.

    Raises:
      InputError: as `read_distilled`; a file that has changed since is read again.
    """
    images, labels, _ = read_distilled(workdir.distilled, shared=True)
    _in_use[workdir] = found = DistilledImages(images, labels)
    return found
