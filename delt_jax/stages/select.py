"""select: rank every training image with the teacher and choose those the synthesis starts from."""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from delt_jax.core.augment.views import Statistics, as_pixels, normalise
from delt_jax.core.ranking import MODES, true_class_probability
from delt_jax.data.pipeline import batches
from delt_jax.data.selection import (
    Selection,
    check_class_sizes,
    read_ranking,
    selection_indices,
    write_ranking,
    write_selection,
)
from delt_jax.data.sources import ImageSource, describe, open_source
from delt_jax.data.specs import statistics
from delt_jax.errors import InputError
from delt_jax.models.network import Network, load_network
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir


@dataclasses.dataclass(frozen=True, eq=False)
class SelectResult:
    """What the stage chose.

    Attributes:
      selection: positions in the training source, and scores, per class and rank.
      scores: of every training image, in the order of the source; NaN where a given ranking leaves
        one out.
      scored: images that the teacher looked at; 0 where a ranking was given.
      seconds: spent on that.
      ranking_csv: every score.
      selection_csv: the selection.
    """

    selection: Selection
    scores: Float[np.ndarray, " n"]
    scored: int
    seconds: float
    ranking_csv: pathlib.Path
    selection_csv: pathlib.Path


def run(config: Any, workdir: WorkDir) -> SelectResult:
    """Ranks the training images, unless `config.select.ranking` names a ranking, and selects.

    Args:
      config: an `ml_collections.ConfigDict`; reads `seed`, `ipc`,
        `data.{name,source,image_size,strict}` and `select.{mode,ranking,statistics,batch_size}`.
      workdir: reads the teacher; writes ranking.csv, selection.csv and metrics.

    Raises:
      InputError: before anything is scored, where the data, a class's size, the teacher's classes
        or an option is wrong; later, where an image cannot be read or a score is not finite.
    """
    if config.select.mode not in MODES:
        raise InputError(f"select.mode {config.select.mode!r}: expected one of {', '.join(MODES)}")
    data = config.data
    spec = describe(data.name, data.source or "", data.image_size or None)
    source = open_source(spec, data.source or "", "train", spec.image_size)
    check_class_sizes(source, config.ipc)
    start, scored = time.monotonic(), 0
    if config.select.ranking:
        scores = read_ranking(pathlib.Path(config.select.ranking), source)
        left_out = int(np.isnan(scores).sum())
        if left_out:
            logging.warning("%s leaves out %d images", config.select.ranking, left_out)
    else:
        teacher = load_network(workdir.teacher)
        check_classes(teacher, source, strict=bool(data.strict))
        channels = statistics(config.select.statistics, spec, (teacher.mean, teacher.std))
        scored = len(source)
        with Progress(scored, "ranking", unit="images") as bar:
            scores = score_images(
                teacher, source, channels, config.select.batch_size, spec.image_size, bar.advance
            )
    seconds = time.monotonic() - start
    indices = selection_indices(source, scores, config.select.mode, config.ipc, config.seed)
    selection = Selection(indices, scores[indices])
    write_ranking(workdir, source, scores)
    write_selection(workdir, source, selection)
    MetricsLog(workdir.metrics_jsonl).write(
        "select",
        mode=config.select.mode,
        ipc=config.ipc,
        images_scored=scored,
        seconds=round(seconds, 3),
        mean_score=float(np.nanmean(scores)),
        mean_selected_score=float(np.nanmean(selection.scores)),
    )
    return SelectResult(
        selection, scores, scored, seconds, workdir.ranking_csv, workdir.selection_csv
    )


def score_images(
    teacher: Network,
    source: ImageSource,
    channels: tuple[tuple[float, ...], tuple[float, ...]],
    batch_size: int,
    image_size: int,
    advance: Callable[[int], Any] = lambda count: None,
) -> Float[np.ndarray, " n"]:
    """Scores every image of a source: the teacher's probability of its true class.

    Args:
      teacher: the ranker.
      source: the images, seen as one centre crop each.
      channels: (mean, std) that the crops are normalised with.
      batch_size: images a call of the teacher.
      image_size: S.
      advance: called with the number of images done since the last call.

    Returns:
      Scores in the order of the source.

    Raises:
      InputError: where a score is not finite, naming the image.
    """
    module = teacher.module
    batch_size = min(batch_size, len(source))
    moments = Statistics(*map(jnp.asarray, channels))

    @jax.jit
    def score(variables, images, labels):
        logits = module.apply(variables, normalise(as_pixels(images), moments))
        return true_class_probability(logits, labels)  # pyright: ignore[reportArgumentType]

    parts = []
    for images, labels, indices in batches(source, None, batch_size, image_size):
        count = len(images)
        if count < batch_size:  # the ragged last batch must not cost a second compilation
            images = np.pad(images, [(0, batch_size - count), (0, 0), (0, 0), (0, 0)])
            labels = np.pad(labels, (0, batch_size - count))
        scores = np.asarray(score(teacher.variables, images, labels))[:count]
        if not np.isfinite(scores).all():
            name = source.names[indices[np.flatnonzero(~np.isfinite(scores))[0]]]
            raise InputError(f"teacher's score of image {name!r} is not finite; check its weights")
        parts.append(scores)
        advance(count)
    return np.concatenate(parts)


def check_classes(network: Network, source: ImageSource, strict: bool = False) -> None:
    """Compares the classes of a network with those of a source, before anything is made of either.

    Raises:
      InputError: where the numbers differ; where the same names stand in another order, which would
        score each image for a wrong class; where `strict`, for any difference in names.
    """
    theirs, ours = tuple(network.class_names), tuple(source.class_names)
    if network.num_classes != len(ours):
        raise InputError(
            f"teacher {network.arch} has {network.num_classes} classes, the data {len(ours)}; "
            "expected as many"
        )
    if not theirs or theirs == ours:
        return
    at = next(index for index in range(len(ours)) if theirs[index] != ours[index])
    difference = f"class {at} is {theirs[at]!r} for the teacher and {ours[at]!r} in the data"
    if strict or set(theirs) == set(ours):
        raise InputError(f"{difference}; expected the same names in the same order")
    logging.warning("%s: taken for the same class", difference)
