"""Scores of all training images by the teacher: streamed, sharded over devices, resumable."""

import collections
import dataclasses
import hashlib
import io
import time
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Int64

from delt_jax.core.augment.views import Statistics
from delt_jax.core.ranking import view_scores
from delt_jax.data import unreadable
from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import UNREADABLE, Batch, Views, batches
from delt_jax.data.specs import Channels
from delt_jax.errors import InputError
from delt_jax.models.network import Network
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.fingerprint import fingerprint

SAVE_SECONDS = 60.0  # between two saves of the scores so far
BATCHES_AHEAD = 2  # on the device while the host decodes the next one
PARTIAL = "ranking.partial.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What the teacher thinks of each image of a source, in its order.

    Attributes:
      scores: its probability of the true class, float32; NaN for an image that cannot be read.
      boxes: where views were looked at, that of the best one; None for centre crops.
      seconds: that it took, those of interrupted runs included.
    """

    scores: Float[np.ndarray, " n"]
    boxes: Int64[np.ndarray, "n 4"] | None
    seconds: float


def rank(
    teacher: Network,
    source: ImageSource,
    channels: tuple[Channels, Channels],
    batch_size: int,
    image_size: int,
    workdir: WorkDir,
    *,
    views: Views | None = None,
    strict: bool = False,
    workers: int = -1,
) -> Ranking:
    """Scores every image of a source: its centre crop, or the best of its views.

    Holds a few batches and the scores. What is done is kept every minute; the same call goes on
    from there, at the border of a batch, so that its result is that of an uninterrupted run, to the
    bit where the devices are the same.

    Args:
      teacher: the ranker.
      source: the images.
      channels: (mean, std) that the crops are normalised with.
      batch_size: crops a call of the teacher, on all devices together.
      image_size: S, the side of what the teacher sees; smaller views are framed with zeros.
      workdir: keeps what is done, until `discard_partial`; unreadable.csv gets the images that
        cannot be read.
      views: crops to choose the best of; None for the one centre crop of each image.
      strict: whether an image that cannot be read is an error.
      workers: processes that decode, as in `delt_jax.data.pipeline.batches`.

    Raises:
      InputError: where a score is not finite, or an image cannot be read and `strict`; both name
        the image.
    """
    # Of images; a whole number of them for each device.
    mesh = device_mesh("images")
    devices = 1 if mesh is None else mesh.size
    batch_size = max(1, batch_size // (1 if views is None else views.count))
    batch_size = -(-min(batch_size, len(source)) // devices) * devices
    identity = _identity(teacher, source, channels, batch_size, image_size, views, strict)
    start = time.monotonic()
    state = _State.restore(workdir, identity) or _State.fresh(len(source), views is not None)
    before, saved = state.seconds, start
    score = scorer(teacher, channels, image_size, batch_size, mesh)
    waiting: collections.deque[tuple[Batch, Any, Any]] = collections.deque()
    found = batches(
        source,
        np.arange(state.done, len(source)),
        batch_size,
        image_size,
        views=views,
        strict=strict,
        workers=workers,
    )
    try:
        with Progress(len(source), "ranking", unit="images", done=state.done) as bar:

            def settle(ahead: int) -> None:
                """Waits for all batches but the `ahead` latest, and takes down their scores."""
                while len(waiting) > ahead:
                    batch, scores, best = waiting.popleft()
                    state.append(batch, np.asarray(scores), np.asarray(best), source)
                    state.seconds = before + time.monotonic() - start
                    bar.advance(len(batch.labels))

            for batch in found:
                scores, best = score(batch)
                without_images = batch._replace(images=np.empty((0, 0, 0, 3), np.uint8))
                waiting.append((without_images, scores, best))
                settle(BATCHES_AHEAD)
                if time.monotonic() - saved >= SAVE_SECONDS:
                    state.save(workdir, identity)
                    saved = time.monotonic()
            settle(0)
    finally:  # also when interrupted, or stopped by an image
        found.close()
        state.save(workdir, identity)
    unreadable.record(workdir, "ranking", source, state.problems.items())
    return Ranking(state.scores, state.boxes, state.seconds)


def discard_partial(workdir: WorkDir) -> None:
    """Removes what an interrupted ranking left, once ranking.csv holds it all."""
    (workdir.path / PARTIAL).unlink(missing_ok=True)


@dataclasses.dataclass(eq=False)
class _State:
    """Scores so far; the first `done` images have theirs.

    Attributes:
      scores: float32, NaN from `done` on.
      boxes: of the best views, or None.
      problems: position and reason of each image that cannot be read.
      done: images.
      seconds: spent on them.
    """

    scores: Float[np.ndarray, " n"]
    boxes: Int64[np.ndarray, "n 4"] | None
    problems: dict[int, str]
    done: int = 0
    seconds: float = 0.0

    @classmethod
    def fresh(cls, count: int, has_boxes: bool) -> "_State":
        boxes = np.zeros((count, 4), np.int64) if has_boxes else None
        return cls(np.full(count, np.nan, np.float32), boxes, {})

    @classmethod
    def restore(cls, workdir: WorkDir, identity: str) -> "_State | None":
        """What an interrupted run of this identity left; None where there is nothing of it."""
        path = workdir.path / PARTIAL
        if not path.is_file():
            return None
        try:
            # From memory: of a damaged archive np.load would leave the file open.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                found = dict(file)
            if str(found["identity"]) == identity:
                state = cls(
                    found["scores"],
                    found.get("boxes"),
                    dict(zip(found["unreadable"].tolist(), found["reasons"].tolist(), strict=True)),
                    int(found["done"]),
                    float(found["seconds"]),
                )
                print(f"ranking: going on from image {state.done:,} of {len(state.scores):,}")
                return state
            why = "of another teacher, other images or other options"
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            why = f"damaged ({error})"
        print(f"ranking: {path} is {why}; starting anew")
        return None

    def save(self, workdir: WorkDir, identity: str) -> None:
        content = io.BytesIO()
        arrays = {} if self.boxes is None else {"boxes": self.boxes}
        np.savez(
            content,
            allow_pickle=False,
            identity=np.asarray(identity),
            scores=self.scores,
            unreadable=np.asarray(list(self.problems), np.int64),
            reasons=np.asarray(list(self.problems.values()), np.str_),
            done=np.asarray(self.done),
            seconds=np.asarray(self.seconds),
            **arrays,
        )
        workdir.write_bytes(workdir.path / PARTIAL, content.getvalue())

    def append(
        self,
        batch: Batch,
        scores: Float[np.ndarray, " b"],
        best: Int[np.ndarray, " b"],
        source: ImageSource,
    ) -> None:
        """Takes down the scores of the next batch, and which of the views was the best."""
        count = len(batch.labels)
        scores, readable = scores[:count].astype(np.float32), batch.labels != UNREADABLE
        broken = np.flatnonzero(readable & ~np.isfinite(scores))
        if broken.size:
            name = source.names[batch.indices[broken[0]]]
            raise InputError(f"teacher's score of image {name!r} is not finite; check its weights")
        self.scores[batch.indices] = np.where(readable, scores, np.nan)
        if self.boxes is not None and batch.boxes is not None:
            self.boxes[batch.indices] = batch.boxes[np.arange(count), best[:count]]
        self.problems.update(batch.problems)
        self.done += count


def scorer(
    teacher: Network,
    channels: tuple[Channels, Channels],
    image_size: int,
    batch_size: int,
    mesh: Mesh | None,
) -> Callable[[Batch], tuple[Array, Array]]:
    """Makes a function of batches, which queues a call of the teacher and does not wait for it.

    Args:
      teacher: the ranker.
      channels: (mean, std) that images are normalised with.
      image_size: S.
      batch_size: images a call; smaller batches are filled up.
      mesh: devices that share a batch; None for one device.

    Returns:
      The function. It gives the scores `[batch_size]` and the number of the view that each is of.
    """
    module = teacher.module
    by_image = copied = None
    if mesh is not None:
        by_image = NamedSharding(mesh, PartitionSpec("images"))
        copied = NamedSharding(mesh, PartitionSpec())
    variables = jax.device_put(teacher.variables, copied)
    moments = Statistics.of(*channels)

    @jax.jit
    def program(variables, images, labels):
        scores = view_scores(module.apply, variables, images, labels, moments, image_size)
        return scores.max(1), scores.argmax(1)

    def score(batch: Batch) -> tuple[Array, Array]:
        images = batch.images if batch.boxes is not None else batch.images[:, None]
        # The ragged last batch is filled up, so that it does not cost a second compilation.
        missing = batch_size - len(images)
        images = np.pad(images, [(0, missing), *[(0, 0)] * 4]) if missing else images
        labels = np.pad(np.maximum(batch.labels, 0), (0, missing)).astype(np.int32)
        return program(variables, *jax.device_put((images, labels), by_image))

    return score


def _identity(
    teacher: Network,
    source: ImageSource,
    channels: tuple[Channels, Channels],
    batch_size: int,
    image_size: int,
    views: Views | None,
    strict: bool,
) -> str:
    """A hash of all that the scores depend on."""
    names = "\n".join(source.names).encode(errors="surrogateescape")
    settings = {
        "arch": teacher.arch,
        "num_classes": teacher.num_classes,
        "channels": channels,
        "batch_size": batch_size,
        "image_size": image_size,
        "views": repr(views),
        "strict": strict,
        "names": hashlib.sha256(names).hexdigest(),
    }
    return fingerprint(settings, source.labels, *jax.tree.leaves(teacher.variables))
