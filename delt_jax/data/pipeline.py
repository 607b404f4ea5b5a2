"""Images in batches: the centre crop that every evaluation sees, through Grain."""

import math
import mmap
from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

import grain
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from delt_jax.data.image_source import ImageSource
from delt_jax.data.specs import Channels
from delt_jax.data.workers import available_cores, resolve_workers, spread
from delt_jax.errors import InputError

UNREADABLE = -1  # stands where the label of an image would that cannot be read
MOST_THREADS = 16
LONGEST = 32  # sides of a crop that an image may be long when it is resized whole


class Batch(NamedTuple):
    """Some images of a source.

    Attributes:
      images: RGB, 0 to 255, cropped to S; with views, v crops of each: `[b, v, s, s, 3]`. Black for
        one that cannot be read.
      labels: class of each; -1 for one that cannot be read.
      indices: position of each in the source.
      problems: position and reason of each image that cannot be read.
      boxes: with views, where the crops are.
    """

    images: UInt8[np.ndarray, "b *v s s 3"]
    labels: Int64[np.ndarray, " b"]
    indices: Int64[np.ndarray, " b"]
    problems: tuple[tuple[int, str], ...] = ()
    boxes: Int64[np.ndarray, "b v 4"] | None = None


class Views(Protocol):
    """Crops of an image that depend on the image and its name alone; picklable."""

    @property
    def count(self) -> int:
        """v, crops of an image."""
        ...

    @property
    def side(self) -> int:
        """Of each crop in pixels."""
        ...

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], name: str
    ) -> tuple[UInt8[np.ndarray, "v s s 3"], Int64[np.ndarray, "v 4"]]:
        """Returns the crops of an image, and where they are."""
        ...


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
    top, left = round((rows - size) / 2), round((columns - size) / 2)  # halves to even
    if max(rows, columns) > LONGEST * size:  # a strip, of which resizing all would take gigabytes
        high, wide = height / rows, width / columns
        box = left * wide, top * high, (left + size) * wide, (top + size) * high
        strip = Image.fromarray(image)
        return np.asarray(strip.resize((size, size), Image.Resampling.BILINEAR, box))
    if (rows, columns) != (height, width):
        # Pillow widens the filter's support when it shrinks: its "bilinear" is the antialiased one.
        pillow = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
        image = np.asarray(pillow)
    return image[top : top + size, left : left + size]


class _Load:
    """From positions in a source to a `Batch`; picklable, for worker processes."""

    def __init__(self, source: ImageSource, image_size: int, views: Views | None, strict: bool):
        self._source, self._image_size = source, image_size
        self._views, self._strict = views, strict

    def __call__(self, indices: Int64[np.ndarray, " b"]) -> Batch:
        views, side = self._views, self._image_size
        shape = (side, side, 3) if views is None else (views.count, views.side, views.side, 3)
        images = _pages((len(indices), *shape))
        boxes = None if views is None else np.zeros((len(indices), views.count, 4), np.int64)
        labels = self._source.labels[indices]
        problems = []
        for row, index in enumerate(indices.tolist()):
            try:
                image = self._source[index]
            except InputError as error:
                if self._strict:
                    raise
                problems.append((index, str(error)))
                labels[row] = UNREADABLE
                continue
            if views is None or boxes is None:
                images[row] = centre_crop(image, side)
            else:
                images[row], boxes[row] = views(image, self._source.names[index])
        return Batch(images, labels, indices, tuple(problems), boxes)


def _pages(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Zeros in memory that goes back to the system with the array.

    The C library keeps what it got for arrays of a few MB, a heap per thread, so that a run would
    grow for thousands of images.
    """
    return np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)


def batches(
    source: ImageSource,
    indices: Sequence[int] | np.ndarray | None,
    batch_size: int,
    image_size: int,
    *,
    views: Views | None = None,
    strict: bool = True,
    workers: int = 0,
    threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Yields centre-cropped images in the order of `indices`, whatever `workers` and `threads`.

    Holds a few batches per thread or process, however many images there are. To go on after an
    interruption, begin with the rest of `indices`.

    Args:
      source: the images.
      indices: positions in it, repeats allowed; None for all in order.
      batch_size: images a batch; the last one may hold fewer.
      image_size: S.
      views: crops that are taken instead of the one in the centre.
      strict: whether an image that cannot be read is an error; otherwise it is black, of label -1,
        and among the batch's `problems`.
      workers: processes that decode, one batch each at a time; 0 for this one; -1 for
        `resolve_workers` to decide.
      threads: batches that this process prepares at once where there are no others (Pillow decodes
        without Python's lock); None for the number of cores; 0 for one at a time, when asked for.

    Raises:
      InputError: from the source, when it gets there, where `strict`.
    """
    chosen = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    count = -(-len(chosen) // batch_size)
    workers = min(resolve_workers(workers, source), count)
    if workers:
        threads = workers  # each waits for a process
    elif threads is None:
        threads = min(available_cores(), MOST_THREADS)
    with spread(_Load(source, image_size, views, strict), workers) as load_batch:

        def load_number(number: int) -> Batch:
            return load_batch(chosen[number * batch_size : (number + 1) * batch_size])

        iterator = iter(
            grain.MapDataset.range(count)
            .map(load_number)
            .to_iter_dataset(
                grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
            )
        )
        try:
            yield from iterator
        finally:
            iterator.close()


def load(
    source: ImageSource,
    indices: Sequence[int] | np.ndarray | None,
    image_size: int,
    *,
    strict: bool = True,
    workers: int = 0,
) -> Batch:
    """Returns one batch of all of `indices`, for sets that are known to be small.

    Args:
      source: the images.
      indices: positions in it; None for all.
      image_size: S.
      strict: as for `batches`.
      workers: as for `batches`.
    """
    chosen = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    images = np.zeros((len(chosen), image_size, image_size, 3), np.uint8)
    labels, problems, done = source.labels[chosen], [], 0
    for batch in batches(source, chosen, 256, image_size, strict=strict, workers=workers):
        place = slice(done, done + len(batch.labels))
        images[place], labels[place] = batch.images, batch.labels
        problems += batch.problems
        done += len(batch.labels)
    return Batch(images, labels, chosen, tuple(problems))


def measure_statistics(
    source: ImageSource, image_size: int, indices: Sequence[int] | np.ndarray | None = None
) -> tuple[Channels, Channels]:
    """Measures mean and standard deviation per channel over all pixels of the centre crops.

    Args:
      source: the images; those that cannot be read are left out.
      image_size: S.
      indices: positions in the source; None for all.

    Returns:
      (mean, std) of pixels in [0, 1], summed exactly in integers, one batch at a time.

    Raises:
      InputError: where not one image can be read.
    """
    count, first, second = 0, np.zeros(3, np.int64), np.zeros(3, np.int64)
    problems = []
    for batch in batches(source, indices, 256, image_size, strict=False):
        problems += batch.problems
        pixels = batch.images[batch.labels != UNREADABLE].reshape(-1, 3).astype(np.int64)
        count += len(pixels)
        first += pixels.sum(0)
        second += (pixels**2).sum(0)
    if not count:
        raise InputError(problems[0][1] if problems else "no images; expected at least one")
    mean = first / count
    std = np.sqrt(second / count - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
