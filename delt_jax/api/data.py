"""Data sets of the API: arrays of one's own, and whatever the command line reads."""

import functools
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64, UInt8
from PIL import Image

from delt_jax.api.mosaic import mosaic
from delt_jax.data import sources
from delt_jax.data.arrays import make_source
from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import load
from delt_jax.data.specs import DatasetSpec, find_spec, get_spec
from delt_jax.errors import InputError
from delt_jax.stages.opening import evenly_spaced


class Images:
    """Labelled images: one split of a data set.

    >>> import numpy as np
    >>> import delt_jax
    >>> pixels = np.zeros((6, 32, 32, 3), np.uint8)
    >>> delt_jax.Images(pixels, [0, 1, 2, 0, 1, 2], ["cat", "dog", "owl"])
    Images(arrays: 6 images of 32 x 32, 3 classes)

    Args:
      images: uint8 `[n, h, w, 3]`, or, grey, `[n, h, w]` or `[n, h, w, 1]`.
      labels: integers from 0, `[n]`.
      class_names: in label order; None names classes by their number, and labels are compared with
        those of others by number.
      image_size: S, the side that networks see; None for the shorter side of the images.
      name: of the data set. A name of the table (`cifar10`, ...) brings its input statistics; else
        they are measured on 2,000 of the images.

    Raises:
      InputError: naming the array that is something else.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Sequence[int] | Int[np.ndarray, " n"],
        class_names: Sequence[str] | None = None,
        *,
        image_size: int | None = None,
        name: str = "arrays",
    ):
        images = np.asarray(images)
        self.is_named = class_names is not None
        self.source: ImageSource = make_source(images, np.asarray(labels), class_names)
        self.image_size = image_size or min(images.shape[1:3])
        self.name = name
        known = find_spec(name)
        if known is not None and known.num_classes != len(self.class_names):
            raise InputError(
                f"data set {name!r}: {len(self.class_names)} classes; expected "
                f"{known.num_classes} (a name of your own takes any)"
            )

    @classmethod
    def of_source(cls, source: ImageSource, spec: DatasetSpec) -> "Images":
        """Those of a source that reads them as they are needed."""
        images = cls.__new__(cls)
        images.is_named = True
        images.source, images.spec = source, spec
        images.image_size, images.name = spec.image_size, spec.name
        return images

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of each image."""
        return self.source.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.source.class_names

    @functools.cached_property
    def images(self) -> UInt8[np.ndarray, "n s s 3"]:
        """All images as networks see them: resized and cropped to their centre, in memory.

        Raises:
          InputError: naming an image that cannot be read.
        """
        return load(self.source, None, self.image_size).images

    @functools.cached_property
    def spec(self) -> DatasetSpec:
        """What is known of the data set: its row of the table, or what its images tell."""
        if find_spec(self.name) is None:
            return sources.derive(self.name, self.source, self.image_size)
        return sources.describe(self.name, "", self.image_size)

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        side = f"{self.image_size} x {self.image_size}"
        return (
            f"Images({self.name}: {len(self):,} images of {side}, {len(self.class_names)} classes)"
        )

    def show(self, per_class: int = 10, classes: int = 10) -> Image.Image:
        """A picture of the first images of the first classes, a class a row."""
        rows = [
            np.flatnonzero(self.labels == label)[:per_class]
            for label in np.unique(self.labels)[:classes]
        ]
        return mosaic([load(self.source, row, self.image_size).images for row in rows])

    def _repr_png_(self) -> bytes | None:
        return self.show()._repr_png_()


def load_data(
    name: str, source: str = "", *, image_size: int | None = None, images_per_class: int = 0
) -> tuple[Images, Images]:
    """Opens a data set; what is large is read as it is needed.

    >>> import delt_jax
    >>> train, test = delt_jax.load_data("digits")
    >>> train
    Images(digits: 1,500 images of 32 x 32, 10 classes)
    >>> train.images.shape, test.labels.dtype
    ((1500, 32, 32, 3), dtype('int64'))

    Args:
      name: of the table (`digits cifar10 cifar100 tiny-imagenet imagenette imagewoof imagenet100
        imagenet1k tf_flowers`), or the path of a data set of one's own.
      source: where the images of a name are: a folder with train/ and test/ (or val/) of class
        folders, `TRAINDIR:TESTDIR`, a folder of Parquet files, an `.npz` with x_train, y_train,
        x_test, y_test, or `tfds:NAME[:DIR]`; "" for scikit-learn's digits, and for what TensorFlow
        Datasets has prepared.
      image_size: S, the side that networks see; None for the table's, or for what the images
        suggest: the largest of 224, 128, 64, 32 that half of them reach.
      images_per_class: of each split, evenly spaced; 0 for all.

    Returns:
      (training images, test images).

    Raises:
      InputError: naming what is wrong with the name or the source.
    """
    if find_spec(name) is None and not source:
        if not (os.sep in name or ":" in name or pathlib.Path(name).expanduser().exists()):
            get_spec(name)  # raises, with the nearest names
        name, source = "custom", name
    spec = sources.describe(name, source, image_size)
    train, test = (
        sources.open_source(spec, source, split, spec.image_size) for split in ("train", "test")
    )
    if images_per_class:
        train, test = (evenly_spaced(split, images_per_class) for split in (train, test))
    return Images.of_source(train, spec), Images.of_source(test, spec)
