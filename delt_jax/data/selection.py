"""ranking.csv and selection.csv: every image's score, and which images a class begins with.

Where the teacher picked the best of random crops, both also say where in the image its box lies.
"""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from delt_jax.core import ranking
from delt_jax.data.image_source import ImageSource
from delt_jax.errors import InputError
from delt_jax.runtime.streams import numpy_seed
from delt_jax.runtime.workdir import WorkDir

RANKING_COLUMNS = ("score", "img_path", "class")
SELECTION_COLUMNS = ("class", "rank", "score", "img_path")
BOX_COLUMNS = ("top", "left", "height", "width")
CELL_COLUMN = "cell"


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """What the initial images of each class are made of: `n = ipc * factor^2` images or patches.

    Attributes:
      indices: positions in the source, by class and preference.
      scores: of each.
      boxes: top, left, height and width of the patch of each; None for whole images.
      factor: f; an initial image is a mosaic of f x f of them.
    """

    indices: Int64[np.ndarray, "k n"]
    scores: Float[np.ndarray, "k n"]
    boxes: Int64[np.ndarray, "k n 4"] | None = None
    factor: int = 1

    @property
    def ipc(self) -> int:
        """Initial images per class."""
        return self.indices.shape[1] // self.factor**2

    @property
    def cells(self) -> Int64[np.ndarray, "slots cells"]:
        """What each initial image is made of, row by row: positions in the raveled `indices`.

        Initial images are in class-major order: class 0 rank 0, class 0 rank 1, ...
        """
        first = np.arange(len(self.indices))[:, None, None] * self.indices.shape[1]
        return (first + ranking.mosaic_ranks(self.ipc, self.factor)).reshape(-1, self.factor**2)

    def origins(
        self, source: ImageSource, slots: Int64[np.ndarray, " n"]
    ) -> list[tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]]:
        """(image names, boxes) that initial images are made of, row by row; no boxes: ()."""
        boxes = None if self.boxes is None else self.boxes.reshape(-1, 4)
        return [
            (
                tuple(source.names[index] for index in self.indices.ravel()[cells]),
                () if boxes is None else tuple(map(tuple, boxes[cells].tolist())),
            )
            for cells in self.cells[slots]
        ]


class Subset:
    """Some images of a source, as a source.

    Attributes:
      indices: positions of the images in the whole source.
    """

    def __init__(self, source: ImageSource, indices: Int64[np.ndarray, " n"]):
        self._source, self.indices = source, indices
        self.labels = source.labels[indices]
        self.names = tuple(source.names[index] for index in indices)
        self.class_names, self.split = source.class_names, source.split

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._source[int(self.indices[index])]


def check_class_sizes(
    source: ImageSource, ipc: int, ranked: np.ndarray | None = None, factor: int = 1
) -> None:
    """Checks that every class has the images that its selection needs.

    Args:
      source: the images.
      ipc: images per class.
      ranked: those among which is chosen, as a mask; None for all.
      factor: f; a mosaic needs f * f of them.

    Raises:
      InputError: naming the first class with too few, and both numbers.
    """
    if ipc < 1:
        raise InputError(f"ipc {ipc}: expected at least 1 image per class")
    labels = source.labels if ranked is None else source.labels[ranked]
    counts = np.bincount(labels, minlength=len(source.class_names))
    small = np.flatnonzero(counts < ipc * factor**2)
    if small.size:
        others = f" ({small.size - 1} more classes are too small)" if small.size > 1 else ""
        needed = f"ipc = {ipc}"
        if factor > 1:
            needed = f"ipc * factor^2 = {ipc} * {factor**2} = {ipc * factor**2}"
        raise InputError(
            f"class {source.class_names[small[0]]!r} has {counts[small[0]]} "
            f"{'images' if ranked is None else 'ranked images'}; expected at least "
            f"{needed}{others}"
        )


def sample_classes(
    source: ImageSource, count: int, seed: int, among: Bool[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, " n"]:
    """Draws up to `count` images of each class; 0 takes all.

    Args:
      source: the images.
      count: images per class.
      seed: of the draw; each class has its own stream.
      among: those that may be drawn; None for all.

    Returns:
      A mask of the images drawn.
    """
    among = np.ones(len(source), bool) if among is None else among
    if not count:
        return among
    drawn = np.zeros(len(source), bool)
    for label, members in enumerate(_members(source)):
        names = [source.names[index] for index in members]
        rng = np.random.default_rng(numpy_seed(seed, "images_per_class", label))
        drawn[members[ranking.sample(among[members], count, rng, names)]] = True
    return drawn


def selection_indices(
    source: ImageSource,
    scores: Float[np.ndarray, " n"],
    mode: str,
    ipc: int,
    seed: int,
    *,
    factor: int = 1,
    among: Bool[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, "k n"]:
    """Chooses `n = ipc * factor^2` images of each class, most preferred first.

    Args:
      source: the images.
      scores: of each; NaN where the ranking leaves an image out, which then is not chosen unless
        the mode is `random`.
      mode: one of `delt_jax.core.ranking.MODES`.
      ipc: images per class.
      seed: of mode `random`, where each class has its own stream.
      factor: f, where images are mosaics of f x f.
      among: the images that may be chosen, in every mode; None for all.

    Returns:
      Positions in the source.

    Raises:
      InputError: for an unknown mode, or a class with too few images, naming it and both numbers.
    """
    candidates = np.ones(len(source), bool) if among is None else among
    if mode != "random":
        candidates = candidates & ~np.isnan(scores)
    check_class_sizes(source, ipc, None if candidates.all() else candidates, factor)
    rows = []
    for label, members in enumerate(_members(source)):
        members = members[candidates[members]]
        names = [source.names[index] for index in members]
        rng = np.random.default_rng(numpy_seed(seed, "selection", label))
        chosen = ranking.order(scores[members], mode, names=names, rng=rng)
        rows.append(members[chosen[: ipc * factor**2]])
    return np.stack(rows)


def _members(source: ImageSource) -> list[Int64[np.ndarray, " m"]]:
    """Positions of the images of each class, ascending."""
    by_class = np.argsort(source.labels, kind="stable")
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    return np.split(by_class, np.cumsum(counts)[:-1])


def write_ranking(
    workdir: WorkDir,
    source: ImageSource,
    scores: Float[np.ndarray, " n"],
    boxes: Int64[np.ndarray, "n 4"] | None = None,
) -> None:
    """Writes ranking.csv as the published code does: by class, ascending, then score, descending.

    Equal scores are in the order of their names. Scores have the digits that bring them back
    exactly. Images without a score are left out. Patches have four columns more, their boxes.
    """
    rows = [
        (name.split("/", 1)[0], -float(score), name, index)
        for index, (name, score) in enumerate(zip(source.names, scores, strict=True))
        if not math.isnan(score)
    ]
    columns = RANKING_COLUMNS if boxes is None else (*RANKING_COLUMNS, *BOX_COLUMNS)
    lines = (
        (repr(-negated), name, folder, *(() if boxes is None else boxes[index]))
        for folder, negated, name, index in sorted(rows)
    )
    workdir.write_csv(workdir.ranking_csv, columns, lines)


def read_ranking(
    path: pathlib.Path, source: ImageSource
) -> tuple[Float[np.ndarray, " n"], Int64[np.ndarray, "n 4"] | None]:
    """Reads a ranking.csv of ours or of the published code.

    Args:
      path: the file; of its columns `score`, `img_path` and, where they are there, those of the
        boxes are read.
      source: the images it is about.

    Returns:
      (scores, boxes): the score of each image of the source, float64, NaN for one that the file
      leaves out; the box of each, or None where the file has none.

    Raises:
      InputError: where it is missing, no ranking, names an image that the source does not have or
        names one twice, or holds a score or a box that is no finite number.
    """
    positions = {name: index for index, name in enumerate(source.names)}
    scores = np.full(len(source), np.nan)
    boxes = None
    for line, row in _read_csv(path, ("score", "img_path")):
        index = positions.get(row["img_path"])
        where = f"{path}, line {line}"
        if index is None:
            raise InputError(
                f"{where}: image {row['img_path']!r} is not in the source; expected "
                f"names like {source.names[0]!r}"
            )
        if not math.isnan(scores[index]):
            raise InputError(f"{where}: image {row['img_path']!r} for the second time")
        scores[index] = _number(row["score"], where)
        if row.get(BOX_COLUMNS[0]) is not None:
            boxes = np.zeros((len(source), 4), np.int64) if boxes is None else boxes
            boxes[index] = _box(row, where)
    return scores, boxes


def write_selection(workdir: WorkDir, source: ImageSource, selection: Selection) -> None:
    """Writes selection.csv, in label order, then rank, then cell.

    Whole images have the columns of `SELECTION_COLUMNS`; patches and mosaics five more: the cell,
    row by row, and the box, which is empty for whole images.
    """
    plain = selection.boxes is None and selection.factor == 1
    columns = SELECTION_COLUMNS if plain else (*SELECTION_COLUMNS, CELL_COLUMN, *BOX_COLUMNS)
    indices, scores = selection.indices.ravel(), selection.scores.ravel()
    boxes = None if selection.boxes is None else selection.boxes.reshape(-1, 4)
    lines = []
    for slot, cells in enumerate(selection.cells):
        label, rank = divmod(slot, selection.ipc)
        for cell, at in enumerate(cells):
            line = (
                *(source.class_names[label], rank),
                *(repr(float(scores[at])), source.names[indices[at]]),
            )
            box = ("",) * 4 if boxes is None else boxes[at]
            lines.append(line if plain else (*line, cell, *box))
    workdir.write_csv(workdir.selection_csv, columns, lines)


def read_selection(path: pathlib.Path, source: ImageSource) -> Selection:
    """Reads what `write_selection` wrote.

    Raises:
      InputError: where it is missing or broken, names an image that the source does not have, or
        does not hold the same number of images for each class of the source.
    """
    positions = {name: index for index, name in enumerate(source.names)}
    # Of each class: cell, rank (so sorted, they are in order of preference), image, score, box.
    rows: dict[int, list[tuple]] = {label: [] for label in range(len(source.class_names))}
    for line, row in _read_csv(path, SELECTION_COLUMNS):
        index = positions.get(row["img_path"])
        where = f"{path}, line {line}"
        if index is None:
            raise InputError(f"{where}: image {row['img_path']!r} is not in the source")
        rank = int(_number(row["rank"], where))
        cell = int(_number(row.get(CELL_COLUMN) or "0", where))
        score = float(row["score"])  # NaN for an image drawn at random that was not ranked
        box = _box(row, where) if row.get(BOX_COLUMNS[0]) else None
        rows[int(source.labels[index])].append((cell, rank, index, score, box))
    counts = {len(entries) for entries in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"{path}: {min(counts)} to {max(counts)} images per class; expected IPC each"
        )
    cells = 1 + max(entry[0] for entries in rows.values() for entry in entries)
    ipc, factor = len(rows[0]) // cells, math.isqrt(cells)
    grid = [(cell, rank) for cell in range(cells) for rank in range(ipc)]
    boxed = {entry[4] is not None for entries in rows.values() for entry in entries}
    for entries in rows.values():
        entries.sort(key=lambda entry: entry[:2])
        whole = cells == 1 or [entry[:2] for entry in entries] == grid
        if not whole or factor**2 != cells or len(boxed) > 1:
            raise InputError(f"{path}: cells or boxes are missing; expected them of every image")
    columns = [list(zip(*entries, strict=True))[2:] for entries in rows.values()]
    indices, scores, boxes = zip(*columns, strict=True)
    return Selection(
        np.asarray(indices, np.int64),
        np.asarray(scores),
        np.asarray(boxes, np.int64) if boxed == {True} else None,
        factor,
    )


def _read_csv(path: pathlib.Path, columns: tuple[str, ...]) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin with a byte order mark
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


def _box(row: dict[str, str], where: str) -> tuple[int, ...]:
    numbers = [row.get(column) or "" for column in BOX_COLUMNS]
    if not all(map(str.isdecimal, numbers)):
        found = ", ".join(map(repr, numbers))
        raise InputError(f"{where}: box {found}; expected {', '.join(BOX_COLUMNS)} in pixels")
    return tuple(map(int, numbers))
