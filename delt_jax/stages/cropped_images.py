"""A split as stages pass over it again and again, and what a network gets right of it."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from delt_jax import target
from delt_jax.data import unreadable
from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import UNREADABLE, Batch, batches, load
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir

HOLD_BYTES = 2 << 30  # a split whose crops are no larger is decoded once and kept
CPU_TEST_BATCH_SIZE = 100  # measured: a quarter faster than 500, which leaves the caches
TEST_BATCH_SIZE = 500
ARGMAX = ("all", "seen")  # classes that a test image may be taken for


class CroppedImages:
    """Centre crops of a source: kept as uint8 where they fit, else decoded on every pass.

    Where they are kept, images that cannot be read are left out, as if the source did not have
    them; else their labels are -1 in the batches. `problems` holds those met so far.

    Args:
      source: the images.
      image_size: S.
      hold_bytes: what the crops may take to be kept.
      strict: whether an image that cannot be read is an error.
      workers: processes that decode, as in `delt_jax.data.pipeline.batches`.
    """

    def __init__(
        self,
        source: ImageSource,
        image_size: int,
        hold_bytes: int = HOLD_BYTES,
        *,
        strict: bool = False,
        workers: int = 0,
    ):
        self.class_names = source.class_names
        self.is_held = len(source) * image_size**2 * 3 <= hold_bytes
        self.problems: dict[int, str] = {}
        self._source, self._image_size = source, image_size
        self._strict, self._workers = strict, workers
        self._held: Batch | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of each image."""
        return self._hold().labels if self.is_held else self._source.labels

    def held(self) -> UInt8[np.ndarray, "n s s 3"]:
        """All crops, in order; only of a set that `is_held`."""
        return self._hold().images

    def batches(self, indices: Int64[np.ndarray, " n"] | None, batch_size: int) -> Iterator[Batch]:
        """Yields the images at `indices` (None: all in order); the last batch may hold fewer."""
        if not self.is_held:
            found = batches(
                self._source,
                indices,
                batch_size,
                self._image_size,
                strict=self._strict,
                workers=self._workers,
            )
            for batch in found:
                self.problems.update(batch.problems)
                yield batch
            return
        held = self._hold()
        chosen = np.arange(len(self)) if indices is None else indices
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            yield Batch(held.images[part], held.labels[part], part)

    def filled_batches(
        self, indices: Int64[np.ndarray, " n"] | None, batch_size: int
    ) -> Iterator[tuple[UInt8[np.ndarray, "b s s 3"], Int64[np.ndarray, " m"]]]:
        """`batches`: images, of which a ragged last batch is filled up, and the labels of the real.

        So that the last batch does not cost a second compilation.
        """
        for batch in self.batches(indices, batch_size):
            filling = [(0, batch_size - len(batch.labels)), (0, 0), (0, 0), (0, 0)]
            yield np.pad(batch.images, filling), batch.labels

    @property
    def readable(self) -> int:
        """Images that can be read, as far as is known."""
        return len(self) if self.is_held else len(self) - len(self.problems)

    def record_unreadable(self, workdir: WorkDir, what: str) -> None:
        """Puts the images that could not be read into unreadable.csv, and says how many; see there.

        Args:
          workdir: of the run.
          what: the stage, and which images.
        """
        unreadable.record(workdir, what, self._source, self.problems.items())

    def _hold(self) -> Batch:
        if self._held is None:
            found = load(
                self._source, None, self._image_size, strict=self._strict, workers=self._workers
            )
            self.problems.update(found.problems)
            if found.problems:
                readable = found.labels != UNREADABLE
                found = Batch(
                    found.images[readable], found.labels[readable], found.indices[readable]
                )
            self._held = found
        return self._held


@dataclasses.dataclass(frozen=True)
class Scope:
    """Some classes of a data set: a network has seen no others and is tested on them alone.

    Attributes:
      classes: their numbers.
      argmax: what a test image may be taken for: "all" classes, or those "seen".
    """

    classes: tuple[int, ...]
    argmax: str = "all"

    def positions(self, labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Where images of these classes are."""
        return np.flatnonzero(np.isin(labels, self.classes))


@dataclasses.dataclass(frozen=True, eq=False)
class Accuracy:
    """Accuracies in percent.

    Attributes:
      top1: of all images.
      per_class: of each class; NaN for one without images.
    """

    top1: float
    per_class: Float[np.ndarray, " k"]


def measure_accuracy(
    logits_of: Callable[[UInt8[np.ndarray, "b s s 3"]], Any],
    images: CroppedImages,
    batch_size: int = 0,
    advance: Callable[[int], Any] = lambda count: None,
    *,
    scope: Scope | None = None,
) -> Accuracy:
    """Counts what a network gets right of the images that can be read.

    Args:
      logits_of: logits `[b, k]` of uint8 images; called with batches of one size.
      images: the test set.
      batch_size: images a call; 0: what suits the device.
      advance: called with the number of images done since the last call.
      scope: the classes whose images are counted; None: all.

    Raises:
      InputError: where not one image can be read.
    """
    chosen = None if scope is None else scope.positions(images.labels)
    answers = np.array(scope.classes) if scope and scope.argmax == "seen" else None
    num_classes = len(images.class_names)
    if not batch_size:
        batch_size = CPU_TEST_BATCH_SIZE if target.platform() == "cpu" else TEST_BATCH_SIZE
    batch_size = max(1, min(batch_size, len(images)))
    correct, totals = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    waiting: collections.deque[tuple[Any, Int64[np.ndarray, " b"]]] = collections.deque()

    def count() -> None:
        logits, labels = waiting.popleft()
        logits = np.asarray(logits)[: len(labels)]
        if answers is None:
            predicted = np.argmax(logits, axis=1)
        else:
            predicted = answers[np.argmax(logits[:, answers], axis=1)]
        np.add.at(correct, labels[predicted == labels], 1)  # which -1, unreadable, never is
        np.add.at(totals, labels[labels != UNREADABLE], 1)
        advance(len(labels))

    for pixels, labels in images.filled_batches(chosen, batch_size):
        waiting.append((logits_of(pixels), labels))
        if len(waiting) > 1:  # one batch is computed while the next one is decoded
            count()
    while waiting:
        count()
    if not totals.any():
        reason = next(iter(images.problems.values()), "there are none")
        raise InputError(f"no test image can be read: {reason}")
    with np.errstate(invalid="ignore"):
        per_class = 100 * correct / totals
    return Accuracy(100 * float(correct.sum() / totals.sum()), per_class)
