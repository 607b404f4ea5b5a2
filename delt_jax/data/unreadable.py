"""unreadable.csv: the images that a run has left out, and why."""

import csv
import io
import logging
from collections.abc import Iterable

from delt_jax.data.image_source import ImageSource
from delt_jax.runtime.workdir import WorkDir

COLUMNS = ("split", "img_path", "reason")


def record(
    workdir: WorkDir,
    what: str,
    source: ImageSource,
    problems: Iterable[tuple[int, str]],
    total: int | None = None,
) -> None:
    """Adds images to unreadable.csv and says in one line how many they are; nothing for none.

    Rows are sorted and none is there twice, however often a stage meets the same image.

    Args:
      workdir: of the run.
      what: was being done, e.g. "ranking"; the line begins with it.
      source: the images; its split is noted too, for both splits may use the same names.
      problems: position in the source and reason of each image that could not be read, repeats
        allowed: `Batch.problems` of all batches.
      total: images that were looked at; None for all of the source.
    """
    reasons = dict(problems)
    if not reasons:
        return
    rows = {(source.split, source.names[index], reason) for index, reason in reasons.items()}
    workdir.write_csv(workdir.unreadable_csv, COLUMNS, sorted(rows | read(workdir)))
    logging.warning(
        "%s: %s of %s images could not be read and were left out; their names and reasons are in "
        "%s",
        *(what, f"{len(reasons):,}", f"{len(source) if total is None else total:,}"),
        workdir.unreadable_csv,
    )


def read(workdir: WorkDir) -> set[tuple[str, str, str]]:
    """Returns the (split, name, reason) of every image that the run has left out so far.

    The split is "" in files of earlier versions, which did not note it.
    """
    if not workdir.unreadable_csv.is_file():
        return set()
    text = workdir.unreadable_csv.read_text(encoding="utf-8", errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""))
    found = {(*[""] * (3 - len(row)), *row) for row in rows if 2 <= len(row) <= 3}
    return {(row[0], row[1], row[2]) for row in found if row[1:] != COLUMNS[1:]}
