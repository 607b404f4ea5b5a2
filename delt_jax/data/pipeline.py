"""Images in batches: the centre crop that every evaluation sees, through Grain."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import Int64, UInt8
from PIL import Image

from delt_jax.data.sources import ImageSource
from delt_jax.data.specs import Channels


class Batch(NamedTuple):
    """Some images of a source.

    Attributes:
      images: RGB, 0 to 255, cropped to S.
      labels: class of each.
      indices: position of each in the source.
    """

    images: UInt8[np.ndarray, "b s s 3"]
    labels: Int64[np.ndarray, " b"]
    indices: Int64[np.ndarray, " b"]


def resize_side(size: int) -> int:
    """Returns the short side that an image is resized to before the centre crop of `size`.

    `size // 7 * 8`: 224 -> 256, 128 -> 144, 64 -> 72, 32 -> 32.

    NOTE(parity): where that is less than `size` (1 to 6, 9 to 13, 17 to 20, 25 to 27, 33, 34 and
    41), the published transform would pad the crop with black; ours resizes to `size`.
    """
    return max(size, size // 7 * 8)


def centre_crop(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """Resizes the short side to `resize_side(size)` (bilinear, antialiased) and crops the centre.

    To the bit torchvision's `Resize(size // 7 * 8, antialias=True)` and `CenterCrop(size)` on PIL
    images, which ranking, recovery and evaluation all apply (VILA-Lab/DELT data_selection.py).
    """
    height, width = image.shape[:2]
    short_side = resize_side(size)
    if height <= width:
        rows, columns = short_side, int(short_side * width / height)
    else:
        rows, columns = int(short_side * height / width), short_side
    if (rows, columns) != (height, width):
        # Pillow widens the filter's support when it shrinks: its "bilinear" is the antialiased one.
        pillow = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
        image = np.asarray(pillow)
    top, left = round((rows - size) / 2), round((columns - size) / 2)  # halves to even
    return image[top : top + size, left : left + size]


class _Load:
    """From a position in a source to what `Batch` holds of it; picklable, for worker processes."""

    def __init__(self, source: ImageSource, image_size: int):
        self._source, self._image_size = source, image_size

    def __call__(self, index: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image = centre_crop(self._source[int(index)], self._image_size)
        return image, self._source.labels[index], np.asarray(index)


def batches(
    source: ImageSource,
    indices: Sequence[int] | np.ndarray | None,
    batch_size: int,
    image_size: int,
    *,
    workers: int = 0,
    threads: int = 2,
) -> Iterator[Batch]:
    """Yields centre-cropped images in the order of `indices`, whatever `workers` and `threads`.

    Holds a few batches at a time. To go on after an interruption, begin with the rest of `indices`.

    Args:
      source: the images.
      indices: positions in it, repeats allowed; None for all in order.
      batch_size: images a batch; the last one may hold fewer.
      image_size: S.
      workers: processes that decode; 0 for this one.
      threads: batches that each of them prepares at once (Pillow decodes without Python's lock).

    Raises:
      InputError: from the source, when it gets there.
    """
    chosen = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    if not len(chosen):
        return
    dataset = (
        grain.MapDataset.source(chosen)  # pyright: ignore[reportArgumentType]
        .map(_Load(source, image_size))
        # Batched before the split over workers, so that their number changes nothing.
        .batch(batch_size, drop_remainder=False)
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # in a notebook: Grain's workers read flags of its own
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    iterator = iter(dataset)
    try:
        for images, labels, positions in iterator:
            yield Batch(images, labels, positions)
    finally:
        iterator.close()


def load(source: ImageSource, indices: Sequence[int] | np.ndarray | None, image_size: int) -> Batch:
    """Returns one batch of all of `indices`, for sets that are known to be small."""
    count = len(source) if indices is None else len(indices)
    parts = list(batches(source, indices, max(1, min(count, 256)), image_size))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Batch(np.zeros((0, image_size, image_size, 3), np.uint8), empty, empty)
    return Batch(*map(np.concatenate, zip(*parts, strict=True)))


def measure_statistics(source: ImageSource, image_size: int) -> tuple[Channels, Channels]:
    """Measures mean and standard deviation per channel over all pixels of the centre crops.

    Returns:
      (mean, std) of pixels in [0, 1], summed exactly in integers, one batch at a time.
    """
    count, first, second = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    for images, _, _ in batches(source, None, 256, image_size):
        pixels = images.reshape(-1, 3).astype(np.int64)
        count += len(pixels)
        first += pixels.sum(0)
        second += (pixels**2).sum(0)
    mean = first / count
    std = np.sqrt(second / count - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
