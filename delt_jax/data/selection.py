"""ranking.csv and selection.csv: every image's score, and which images a class begins with."""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int64

from delt_jax.core import ranking
from delt_jax.data.sources import ImageSource
from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir

RANKING_COLUMNS = ("score", "img_path", "class")
SELECTION_COLUMNS = ("class", "rank", "score", "img_path")


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """The images that each class begins with, by rank: positions in the source, and scores."""

    indices: Int64[np.ndarray, "k ipc"]
    scores: Float[np.ndarray, "k ipc"]


def check_class_sizes(source: ImageSource, ipc: int, ranked: np.ndarray | None = None) -> None:
    """Raises `InputError` naming the first class with fewer than IPC (`ranked`) images."""
    if ipc < 1:
        raise InputError(f"ipc {ipc}: expected at least 1 image per class")
    labels = source.labels if ranked is None else source.labels[ranked]
    counts = np.bincount(labels, minlength=len(source.class_names))
    small = np.flatnonzero(counts < ipc)
    if small.size:
        others = f" ({small.size - 1} more classes are too small)" if small.size > 1 else ""
        raise InputError(
            f"class {source.class_names[small[0]]!r} has {counts[small[0]]} "
            f"{'images' if ranked is None else 'ranked images'}; expected at least "
            f"ipc = {ipc}{others}"
        )


def selection_indices(
    source: ImageSource, scores: Float[np.ndarray, " n"], mode: str, ipc: int, seed: int
) -> Int64[np.ndarray, "k ipc"]:
    """Chooses IPC images of each class, most preferred first.

    Args:
      source: the images.
      scores: of each; NaN where the ranking leaves an image out, which then is not chosen unless
        the mode is `random`.
      mode: one of `delt_jax.core.ranking.MODES`.
      ipc: images per class.
      seed: of mode `random`, where each class has its own stream.

    Returns:
      Positions in the source.

    Raises:
      InputError: for an unknown mode, or a class with too few images, naming it and both numbers.
    """
    candidates = np.ones(len(source), bool) if mode == "random" else ~np.isnan(scores)
    check_class_sizes(source, ipc, None if candidates.all() else candidates)
    names = np.asarray(source.names)
    rows = []
    for label in range(len(source.class_names)):
        members = np.flatnonzero((source.labels == label) & candidates)
        rng = np.random.default_rng([seed, label])
        chosen = ranking.order(scores[members], mode, names=names[members], rng=rng)
        rows.append(members[chosen[:ipc]])
    return np.stack(rows)


def write_ranking(workdir: WorkDir, source: ImageSource, scores: Float[np.ndarray, " n"]) -> None:
    """Writes ranking.csv as the published code does: by class, ascending, then score, descending.

    Equal scores are in the order of their names. Scores have the digits that bring them back
    exactly. Images without a score are left out.
    """
    rows = [
        (name.split("/", 1)[0], -float(score), name)
        for name, score in zip(source.names, scores, strict=True)
        if not math.isnan(score)
    ]
    lines = ((repr(-negated), name, folder) for folder, negated, name in sorted(rows))
    workdir.write_text(workdir.ranking_csv, _csv(RANKING_COLUMNS, lines))


def read_ranking(path: pathlib.Path, source: ImageSource) -> Float[np.ndarray, " n"]:
    """Reads a ranking.csv of ours or of the published code.

    Args:
      path: the file; of its columns `score` and `img_path` are read.
      source: the images it is about.

    Returns:
      The score of each image of the source, float64; NaN for one that the file leaves out.

    Raises:
      InputError: where it is missing, no ranking, names an image that the source does not have or
        names one twice, or holds a score that is no finite number.
    """
    positions = {name: index for index, name in enumerate(source.names)}
    scores = np.full(len(source), np.nan)
    for line, row in _read_csv(path, ("score", "img_path")):
        index = positions.get(row["img_path"])
        if index is None:
            raise InputError(
                f"{path}, line {line}: image {row['img_path']!r} is not in the source; expected "
                f"names like {source.names[0]!r}"
            )
        if not math.isnan(scores[index]):
            raise InputError(f"{path}, line {line}: image {row['img_path']!r} for the second time")
        scores[index] = _number(row["score"], f"{path}, line {line}")
    return scores


def write_selection(workdir: WorkDir, source: ImageSource, selection: Selection) -> None:
    """Writes selection.csv, in label order, then rank."""
    lines = (
        (source.class_names[label], rank, repr(float(score)), source.names[index])
        for label, pairs in enumerate(zip(selection.indices, selection.scores, strict=True))
        for rank, (index, score) in enumerate(zip(*pairs, strict=True))
    )
    workdir.write_text(workdir.selection_csv, _csv(SELECTION_COLUMNS, lines))


def read_selection(path: pathlib.Path, source: ImageSource) -> Selection:
    """Reads what `write_selection` wrote.

    Raises:
      InputError: where it is missing or broken, names an image that the source does not have, or
        does not hold the same number of images for each class of the source.
    """
    positions = {name: index for index, name in enumerate(source.names)}
    rows: dict[int, list[tuple[int, int, float]]] = {k: [] for k in range(len(source.class_names))}
    for line, row in _read_csv(path, SELECTION_COLUMNS):
        index = positions.get(row["img_path"])
        if index is None:
            raise InputError(f"{path}, line {line}: image {row['img_path']!r} is not in the source")
        rank = int(_number(row["rank"], f"{path}, line {line}"))
        score = float(row["score"])  # NaN for an image drawn at random that was not ranked
        rows[int(source.labels[index])].append((rank, index, score))
    counts = {len(entries) for entries in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"{path}: {min(counts)} to {max(counts)} images per class; expected IPC each"
        )
    for entries in rows.values():
        entries.sort()
    return Selection(
        np.asarray([[index for _, index, _ in entries] for entries in rows.values()], np.int64),
        np.asarray([[score for _, _, score in entries] for entries in rows.values()]),
    )


def _csv(columns: tuple[str, ...], lines: Iterable[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return text.getvalue()


def _read_csv(path: pathlib.Path, columns: tuple[str, ...]) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"{path}: {found}; expected columns {','.join(columns)}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        found = ",".join(reader.fieldnames or ()) or "nothing"
        raise InputError(f"{path}: found columns {found}; expected {','.join(columns)}")
    for row in reader:
        if any(row[column] is None for column in columns):
            raise InputError(f"{path}, line {reader.line_num}: cut short")
        yield reader.line_num, row


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {text!r}; expected a finite number")
    return value
