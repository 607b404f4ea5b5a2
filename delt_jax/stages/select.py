"""select: rank every training image with the teacher and choose those the synthesis starts from."""

import dataclasses
import logging
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from delt_jax.data.class_order import text_of
from delt_jax.data.image_source import ImageSource
from delt_jax.data.patches import RandomCrops
from delt_jax.data.selection import (
    BOX_COLUMNS,
    Selection,
    Subset,
    check_class_sizes,
    read_ranking,
    sample_classes,
    selection_indices,
    write_ranking,
    write_selection,
)
from delt_jax.data.specs import DatasetSpec, statistics
from delt_jax.errors import InputError
from delt_jax.models.network import Network, load_network
from delt_jax.runtime import hosts
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir, expanded
from delt_jax.stages import options as table
from delt_jax.stages import ranking
from delt_jax.stages.opening import describe, open_split


@dataclasses.dataclass(frozen=True, eq=False)
class SelectResult:
    """What the stage chose.

    Attributes:
      selection: positions in the training source, scores and boxes, per class and rank.
      scores: of every training image, in the order of the source; NaN for one that was not looked
        at, cannot be read, or is left out by a given ranking.
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
        `data.{name,source,image_size,strict,workers}` and `select`.
      workdir: reads the teacher; writes ranking.csv, selection.csv and metrics.

    Raises:
      InputError: before anything is scored, where the data, a class's size, the teacher's classes
        or an option is wrong; later, where an image cannot be read or a score is not finite.
    """
    options = config.select
    spec = describe(config)
    check(config, spec.image_size)
    source = open_split(config, spec, "train")
    check_class_sizes(source, config.ipc, factor=options.factor)
    scored, seconds = 0, 0.0
    if options.ranking:
        scores, boxes = _read(expanded(options.ranking), source, options.crops)
    else:
        teacher = load_network(workdir.teacher)
        check_classes(teacher, source)
        scores, boxes, scored, seconds = score_images(config, spec, source, teacher, workdir)
    selection = choose(config, source, scores, boxes)
    result = SelectResult(
        selection, scores, scored, seconds, workdir.ranking_csv, workdir.selection_csv
    )
    crew = hosts.current()
    crew.wait("selected")  # all have read what the others scored
    if not crew.is_first:
        return result
    write_ranking(workdir, source, scores, boxes)
    write_selection(workdir, source, selection)
    MetricsLog(workdir.metrics_jsonl).write(
        "select",
        mode=options.mode,
        ipc=config.ipc,
        crops=options.crops,
        factor=options.factor,
        images_scored=scored,
        seconds=round(seconds, 3),
        mean_score=float(np.nanmean(scores)),
        mean_selected_score=float(np.nanmean(selection.scores)),
    )
    return result


def score_images(
    config: Any, spec: DatasetSpec, source: ImageSource, teacher: Network, workdir: WorkDir
) -> tuple[Float[np.ndarray, " n"], Int64[np.ndarray, "n 4"] | None, int, float]:
    """What the teacher thinks of the training images that `select` lets it look at.

    Args:
      config: reads `seed`, `data.{strict,workers}` and `select`.
      spec: the data set; reads its image size and statistics.
      source: its training images.
      teacher: of the same classes.
      workdir: keeps what is done, see `delt_jax.stages.ranking.rank`.

    Returns:
      (scores, boxes, images looked at, seconds). Scores are in the order of the source, NaN for an
      image that was not looked at or cannot be read; boxes are those of the best crops, None where
      whole images were looked at.
    """
    options = config.select
    looked_at = np.flatnonzero(sample_classes(source, options.images_per_class, config.seed))
    ranked = ranking.rank(
        teacher,
        source if len(looked_at) == len(source) else Subset(source, looked_at),
        statistics(options.statistics, spec, (teacher.mean, teacher.std)),
        options.batch_size,
        spec.image_size,
        workdir,
        views=_views(config, spec.image_size),
        strict=bool(config.data.strict),
        workers=config.data.workers,
        save_minutes=config.checkpoint_minutes,
    )
    scores = _spread(ranked.scores, looked_at, len(source), np.nan)
    boxes = ranked.boxes
    boxes = None if boxes is None else _spread(boxes, looked_at, len(source), 0)
    return scores, boxes, len(looked_at), ranked.seconds


def choose(
    config: Any,
    source: ImageSource,
    scores: Float[np.ndarray, " n"],
    boxes: Int64[np.ndarray, "n 4"] | None,
) -> Selection:
    """The images that the synthesis starts from, by `select.{mode,factor,images_per_class}`.

    Args:
      config: reads `seed`, `ipc` and `select`.
      source: the training images.
      scores: of each; one that is NaN is not chosen.
      boxes: of the best crops, where they were looked at.

    Raises:
      InputError: where a class has too few images with a score.
    """
    options = config.select
    among = sample_classes(source, options.images_per_class, config.seed, ~np.isnan(scores))
    indices = selection_indices(
        source,
        scores,
        options.mode,
        config.ipc,
        config.seed,
        factor=options.factor,
        among=among,
    )
    return Selection(
        indices, scores[indices], None if boxes is None else boxes[indices], options.factor
    )


def check(config: Any, image_size: int) -> None:
    """Checks the options of the stage against one another, before any work.

    Args:
      config: reads `ipc` and `select.{mode,crops,factor,images_per_class}`.
      image_size: S.

    Raises:
      InputError: naming the option that is wrong, what it is and what is expected.
    """
    options = config.select
    table.check(options, "select")
    if options.factor > image_size:
        raise InputError(
            f"select.factor: got {options.factor}, expected 1 to the side of {image_size} pixels"
        )
    needed = config.ipc * options.factor**2
    if options.images_per_class and options.images_per_class < needed:
        raise InputError(
            f"select.images_per_class: got {options.images_per_class}, expected 0 (all) or at "
            f"least ipc * factor^2 = {config.ipc} * {options.factor**2} = {needed}"
        )


def _views(config: Any, image_size: int) -> RandomCrops | None:
    """The crops that the teacher looks at; None for the centre crop of each image."""
    options = config.select
    if not options.crops:
        return None
    return RandomCrops(options.crops, image_size // options.factor, config.seed)


def _spread(values: np.ndarray, indices: np.ndarray, count: int, empty: float) -> np.ndarray:
    """Puts the values of some images in their places among all of them."""
    if len(indices) == count:
        return values
    spread = np.full((count, *values.shape[1:]), empty, values.dtype)
    spread[indices] = values
    return spread


def _read(
    path: pathlib.Path, source: ImageSource, crops: int
) -> tuple[Float[np.ndarray, " n"], Int64[np.ndarray, "n 4"] | None]:
    """A ranking that was made before: scores and boxes, which must be there for crops alone."""
    scores, boxes = read_ranking(path, source)
    if (boxes is not None) != bool(crops):
        found, expected = (
            ("crops", "whole images") if boxes is not None else ("whole images", "crops")
        )
        raise InputError(
            f"{path}: scores of {found} (columns {','.join(BOX_COLUMNS)} tell); select.crops = "
            f"{crops} expects those of {expected}"
        )
    left_out = int(np.isnan(scores).sum())
    if left_out:
        logging.warning("%s leaves out %d images", path, left_out)
    return scores, boxes


def check_classes(network: Network, source: ImageSource) -> None:
    """Compares the classes of a network with those of a source, before anything is made of either.

    Raises:
      InputError: where their numbers, names or order differ, which would score images for a wrong
        class. A network without class names is taken at its number of classes.
    """
    theirs, ours = tuple(map(text_of, network.class_names)), tuple(source.class_names)
    if network.num_classes != len(ours):
        raise InputError(
            f"teacher {network.arch} has {network.num_classes} classes, the data {len(ours)}; "
            "expected as many"
        )
    if not theirs or theirs == ours:
        return
    at = next(index for index in range(len(ours)) if theirs[index] != ours[index])
    raise InputError(
        f"class {at} is {theirs[at]!r} for the teacher and {ours[at]!r} in the data; expected the "
        "same names in the same order"
    )
