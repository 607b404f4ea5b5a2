"""Patches, random square crops of real images, and the initial images that are made of them.

Source: LINs-lab/RDED `synthesize/utils.py` at 3f6453d (`MultiRandomCrop`, `pad`, `mix_images`).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import centre_crop, load
from delt_jax.data.selection import Selection
from delt_jax.data.threads import for_each
from delt_jax.errors import InputError
from delt_jax.runtime.streams import numpy_seed

SMALLEST, LARGEST = 0.08, 1.0  # share of the area of a crop: torchvision's default, which RDED has
TRIES = 10  # of torchvision's RandomResizedCrop, before it takes the centre

Box = tuple[int, ...]
"""Top, left, height and width in the pixels of the image as its source serves it."""


@dataclasses.dataclass(frozen=True)
class RandomCrops:
    """The views of an image among which the teacher picks the best.

    An image has a stream of its own, named by the seed and by the image, so its crops depend on
    neither the order of the images nor how they are batched.

    Attributes:
      count: crops of an image.
      side: to which each is resized, in pixels.
      seed: of the run.
    """

    count: int
    side: int
    seed: int

    def boxes(self, height: int, width: int, name: str) -> Int64[np.ndarray, "v 4"]:
        """The boxes of image `name`: top, left, height, width."""
        rng = np.random.default_rng(numpy_seed(self.seed, "crops", name))
        return np.asarray([random_box(height, width, rng) for _ in range(self.count)], np.int64)

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], name: str
    ) -> tuple[UInt8[np.ndarray, "v s s 3"], Int64[np.ndarray, "v 4"]]:
        """Returns the crops of an image, and where they are."""
        height, width = image.shape[:2]
        boxes = self.boxes(height, width, name)
        return np.stack([crop(image, box, self.side) for box in boxes]), boxes


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Draws a square as torchvision's `RandomResizedCrop(ratio=(1, 1))` draws it.

    Its area is uniform between .08 and 1 of the image's; a square that does not fit is drawn again,
    ten times, after which it is the largest one in the middle.

    Args:
      height: of the image in pixels.
      width: of the image in pixels.
      rng: the stream.

    Returns:
      (top, left, height, width).
    """
    for _ in range(TRIES):
        side = round(math.sqrt(height * width * rng.uniform(SMALLEST, LARGEST)))
        if 0 < side <= min(height, width):
            top, left = rng.integers(0, (height - side + 1, width - side + 1))
            return int(top), int(left), side, side
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def crop(
    image: UInt8[np.ndarray, "h w 3"],
    box: Box | Int64[np.ndarray, " 4"],
    height: int,
    width: int | None = None,
) -> UInt8[np.ndarray, "y x 3"]:
    """Cuts a box out and resizes it (bilinear, antialiased), as torchvision does on PIL images.

    NOTE(parity): RDED crops in floating point; ours rounds to 8 bits, as its JPEG does later.

    Args:
      image: of any size.
      box: top, left, height, width, inside the image.
      height: of the result.
      width: of the result; None: a square.

    Raises:
      InputError: where the box is not inside the image.
    """
    top, left, rows, columns = map(int, box)
    cut = np.ascontiguousarray(image[top : top + rows, left : left + columns])
    if not cut.size or cut.shape[:2] != (rows, columns):
        raise InputError(
            f"box {rows} x {columns} at {top}, {left}: not inside an image of "
            f"{image.shape[0]} x {image.shape[1]} pixels; rank the images anew"
        )
    side = (height if width is None else width, height)
    return np.asarray(Image.fromarray(cut).resize(side, Image.Resampling.BILINEAR))


def cell_shapes(image_size: int, factor: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of the cells of a mosaic, row by row: S // f; the first S % f have one more.

    NOTE(parity): RDED stretches its S // f crops to the larger cells by nearest neighbours; ours
    are cut out at the size that they are shown at.

    >>> cell_shapes(5, 2)
    ((3, 3), (3, 2), (2, 3), (2, 2))
    """
    sides = [image_size // factor + (i < image_size % factor) for i in range(factor)]
    return tuple((height, width) for height in sides for width in sides)


def join_cells(cells: Sequence[UInt8[np.ndarray, "y x 3"]]) -> UInt8[np.ndarray, "s s 3"]:
    """Puts f * f cells together, row by row."""
    factor = math.isqrt(len(cells))
    rows = [cells[i : i + factor] for i in range(0, len(cells), factor)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def initial_image(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    boxes: Sequence[Box | Int64[np.ndarray, " 4"] | None],
    image_size: int,
) -> UInt8[np.ndarray, "s s 3"]:
    """Makes the image that a slot begins as.

    Args:
      images: one, or the f * f of a mosaic, row by row, as their source serves them.
      boxes: the patch of each; None for its centre crop, shrunk where it is a cell.
      image_size: S.
    """
    shapes = cell_shapes(image_size, math.isqrt(len(images)))
    cells = []
    for image, box, shape in zip(images, boxes, shapes, strict=True):
        if box is None:
            image, box = centre_crop(image, image_size), (0, 0, image_size, image_size)
        cells.append(crop(image, box, *shape))
    return join_cells(cells)


def initial_images(
    source: ImageSource,
    selection: Selection,
    image_size: int,
    slots: Int64[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Makes the images that a selection begins as: centre crops, patches or mosaics.

    Args:
      source: the real images.
      selection: what to make them of.
      image_size: S.
      slots: which of them, in class-major order; None for all.

    Raises:
      InputError: naming an image that cannot be read.
    """
    cells = selection.cells if slots is None else selection.cells[slots]
    indices = selection.indices.ravel()[cells]
    if selection.boxes is None and selection.factor == 1:
        return load(source, indices[:, 0], image_size).images
    boxes = None if selection.boxes is None else selection.boxes.reshape(-1, 4)[cells]

    made = np.empty((len(cells), image_size, image_size, 3), np.uint8)

    def make(slot: int) -> None:
        images = [source[int(index)] for index in indices[slot]]
        own = [None] * len(images) if boxes is None else list(boxes[slot])
        made[slot] = initial_image(images, own, image_size)

    for_each(len(cells), make)
    return made
