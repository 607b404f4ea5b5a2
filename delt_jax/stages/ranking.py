"""Scores of all training images: streamed, split over hosts and devices, resumable."""

import collections
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterable

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int64

from delt_jax.core.augment.views import Statistics
from delt_jax.core.compiling import built_once, compiler_options
from delt_jax.core.ranking import view_scores
from delt_jax.data import unreadable
from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import Batch, Views, batches
from delt_jax.data.specs import Channels
from delt_jax.models.network import Network
from delt_jax.runtime import hosts, interruption, save_points
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.save_points import SavePoints
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import partial_ranking
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.partial_ranking import Part

BATCHES_AHEAD = 2  # on the device while the host decodes the next one


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What the teacher thinks of each image of a source, in its order.

    Attributes:
      scores: its probability of the true class, float32; NaN for an image that cannot be read.
      boxes: where views were looked at, that of the best one; None for centre crops.
      seconds: that it took, summed over hosts, those of interrupted runs included.
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
    save_minutes: float = save_points.MINUTES,
) -> Ranking:
    """Scores every image of a source: its centre crop, or the best of its views.

    Holds a few batches and the scores. What is done is kept every few minutes; the same call goes
    on from there, at the border of a batch, so that its result is that of an uninterrupted run, to
    the bit where the devices are the same. Hosts score their shares of what is left, and each of
    them gets the whole.

    Args:
      teacher: the ranker.
      source: the images.
      channels: (mean, std) that the crops are normalised with.
      batch_size: crops a call of the teacher, on all devices together.
      image_size: S, the side of what the teacher sees; smaller views are framed with zeros.
      workdir: keeps what is done, in `partial_ranking.FOLDER`, also afterwards;
        unreadable.csv gets the images that cannot be read.
      views: crops to choose the best of; None for the one centre crop of each image.
      strict: whether an image that cannot be read is an error.
      workers: processes that decode, as in `delt_jax.data.pipeline.batches`.
      save_minutes: between two saves of the scores so far.

    Raises:
      InputError: where a score is not finite, or an image cannot be read and `strict`; both name
        the image.
    """
    # Of images; a whole number of them for each device.
    mesh, crew = device_mesh("images"), hosts.current()
    devices = 1 if mesh is None else mesh.size
    batch_size = max(1, batch_size // (1 if views is None else views.count))
    batch_size = -(-min(batch_size, len(source)) // devices) * devices
    total = -(-len(source) // batch_size)
    identity = _identity(teacher, source, channels, batch_size, image_size, views, strict)
    left = partial_ranking.missing(partial_ranking.read_parts(workdir, identity), total)
    left = crew.agree("batches to rank", left)
    sizes = np.minimum(batch_size, len(source) - batch_size * np.arange(total))
    done = len(source) - int(sizes[left].sum())
    if done and crew.is_first:
        whole = f"kept, all {done:,} images are scored"
        print(f"ranking: {f'going on from image {done:,} of {len(source):,}' if left else whole}")
    own = crew.dealt(left)
    score = scorer(teacher, channels, image_size, batch_size, mesh)
    points = SavePoints(save_minutes)
    with (
        Progress(len(source), "ranking", unit="images", done=done) as bar,
        interruption.held_back(),
    ):
        for first, stop in partial_ranking.stretches(own):
            part = Part(first)
            save = functools.partial(part.save, workdir, identity)
            found = batches(
                source,
                np.arange(first * batch_size, min(stop * batch_size, len(source))),
                batch_size,
                image_size,
                views=views,
                strict=strict,
                workers=workers,
            )
            try:
                _score_part(part, found, score, source, save, points, bar)
            finally:  # also when interrupted, or stopped by an image
                found.close()
                save()
    crew.wait("ranked")
    parts = partial_ranking.read_whole(workdir, identity, total)
    problems = {index: reason for part in parts for index, reason in part.problems.items()}
    if crew.is_first:
        unreadable.record(workdir, "ranking", source, problems.items())
    return Ranking(
        np.concatenate([scores for part in parts for scores in part.scores]),
        None if views is None else np.concatenate([box for part in parts for box in part.boxes]),
        sum(part.seconds for part in parts),
    )


def _score_part(
    part: Part,
    found: Iterable[Batch],
    score: Callable[[Batch], tuple[Array, Array]],
    source: ImageSource,
    save: Callable[[], None],
    points: SavePoints,
    bar: Progress,
) -> None:
    """Scores batches one after another, a few of them on the device at a time."""
    start = time.monotonic()
    waiting: collections.deque[tuple[Batch, Array, Array]] = collections.deque()

    def settle(ahead: int) -> None:
        """Waits for all batches but the `ahead` latest, and takes down their scores."""
        while len(waiting) > ahead:
            batch, scores, best = waiting.popleft()
            part.append(batch, np.asarray(scores), np.asarray(best), source)
            part.seconds = time.monotonic() - start
            bar.advance(len(batch.labels))

    for batch in found:
        scores, best = score(batch)
        without_images = batch._replace(images=np.empty((0, 0, 0, 3), np.uint8))
        waiting.append((without_images, scores, best))
        settle(BATCHES_AHEAD)
        if points.is_due:
            save()
            points.saved()
    settle(0)


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
    by_image = copied = None
    if mesh is not None:
        by_image = NamedSharding(mesh, PartitionSpec("images"))
        copied = NamedSharding(mesh, PartitionSpec())
    variables = jax.device_put(teacher.variables, copied)
    moments = Statistics.of(*channels)

    program = _program(teacher.module, image_size)

    def score(batch: Batch) -> tuple[Array, Array]:
        images = batch.images if batch.boxes is not None else batch.images[:, None]
        # The ragged last batch is filled up, so that it does not cost a second compilation.
        missing = batch_size - len(images)
        images = np.pad(images, [(0, missing), *[(0, 0)] * 4]) if missing else images
        labels = np.pad(np.maximum(batch.labels, 0), (0, missing)).astype(np.int32)
        return program(variables, *jax.device_put((images, labels), by_image), moments)

    return score


@built_once
def _program(module: nn.Module, image_size: int) -> Callable[..., tuple[Array, Array]]:
    """The jitted `program(variables, images, labels, moments) -> (scores, view of each)`."""

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def program(variables, images, labels, moments):
        scores = view_scores(module.apply, variables, images, labels, moments, image_size)
        return scores.max(1), scores.argmax(1)

    return program


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
