"""The scores of a ranking: parts that hosts and earlier starts left, put together.

A part is a stretch of batches that one host scored one after another; its file,
`scores/<first batch>.npz`, holds what it has so far. So a ranking goes on where it was stopped, on
as many hosts as there are then, and its batches are always the same. The parts stay when it is
done: where other images are to be selected by the same scores, nothing is scored again.
"""

import dataclasses
import io
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Int64

from delt_jax.data.image_source import ImageSource
from delt_jax.data.pipeline import UNREADABLE, Batch
from delt_jax.errors import InputError
from delt_jax.runtime import faults, hosts
from delt_jax.runtime.workdir import WorkDir

FOLDER = "scores"


@dataclasses.dataclass(eq=False)
class Part:
    """Scores of images that follow one another.

    Attributes:
      first: number of its first batch.
      scores: of each batch so far, float32; NaN for an image that cannot be read.
      boxes: of the best views, likewise; empty for centre crops.
      problems: position in the source and reason of each image that cannot be read.
      batches: how many are done.
      seconds: spent on them.
    """

    first: int
    scores: list[Float[np.ndarray, " b"]] = dataclasses.field(default_factory=list)
    boxes: list[Int64[np.ndarray, "b 4"]] = dataclasses.field(default_factory=list)
    problems: dict[int, str] = dataclasses.field(default_factory=dict)
    batches: int = 0
    seconds: float = 0.0

    def append(
        self,
        batch: Batch,
        scores: Float[np.ndarray, " b"],
        best: Int[np.ndarray, " b"],
        source: ImageSource,
    ) -> None:
        """Takes down the scores of the next batch, and which of the views was the best.

        Raises:
          InputError: for a score that is not finite, naming the image.
        """
        count = len(batch.labels)
        scores, readable = scores[:count].astype(np.float32), batch.labels != UNREADABLE
        broken = np.flatnonzero(readable & ~np.isfinite(scores))
        if broken.size:
            name = source.names[batch.indices[broken[0]]]
            raise InputError(f"teacher's score of image {name!r} is not finite; check its weights")
        self.scores.append(np.where(readable, scores, np.float32(np.nan)))
        if batch.boxes is not None:
            self.boxes.append(batch.boxes[np.arange(count), best[:count]])
        self.problems.update(batch.problems)
        self.batches += 1

    def save(self, workdir: WorkDir, identity: str) -> None:
        """Writes what there is, for rankings of this identity to go on with."""
        if not self.batches:
            return
        content = io.BytesIO()
        arrays = {"boxes": np.concatenate(self.boxes)} if self.boxes else {}
        np.savez(
            content,
            allow_pickle=False,
            identity=np.asarray(identity),
            scores=np.concatenate(self.scores),
            unreadable=np.asarray(list(self.problems), np.int64),
            reasons=np.asarray(list(self.problems.values()), np.str_),
            batches=np.asarray(self.batches),
            seconds=np.asarray(self.seconds),
            **arrays,
        )
        path = workdir.path / FOLDER / f"{self.first:08d}.npz"
        workdir.write_bytes(path, content.getvalue())


def read_parts(workdir: WorkDir, identity: str) -> list[Part]:
    """The parts of this identity, in order; one that is damaged or of another is said and left."""
    parts = []
    for path in sorted((workdir.path / FOLDER).glob("*.npz")):
        try:
            part = _read(path, identity)
        except Exception as error:  # zipfile and NumPy raise almost anything
            if isinstance(error, MemoryError) or faults.explained(error):
                raise  # the file may well be whole
            print(f"ranking: {path} is damaged ({error}); what it held is done again")
            continue
        if part is None:
            print(f"ranking: {path} is of another teacher, other images or other options; removed")
            path.unlink(missing_ok=True)
        else:
            parts.append(part)
    return parts


def _read(path: pathlib.Path, identity: str) -> Part | None:
    # From memory: of a damaged archive np.load would leave the file open.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        found = dict(file)
    if str(found["identity"]) != identity:
        return None
    return Part(
        int(path.stem),
        [found["scores"]],
        [found["boxes"]] if "boxes" in found else [],
        dict(zip(found["unreadable"].tolist(), found["reasons"].tolist(), strict=True)),
        int(found["batches"]),
        float(found["seconds"]),
    )


def missing(parts: Sequence[Part], total: int) -> list[int]:
    """Numbers of the batches of `total` that no part has."""
    done = {number for part in parts for number in range(part.first, part.first + part.batches)}
    return [number for number in range(total) if number not in done]


def stretches(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers as (first, last + 1) of those that follow one another."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(numbers, breaks) if len(run)]


def read_whole(workdir: WorkDir, identity: str, total: int) -> list[Part]:
    """All parts of a ranking that every host has finished."""
    return hosts.seen(
        lambda: read_parts(workdir, identity),
        lambda parts: not missing(parts, total),
        f"{workdir.path / FOLDER}, {total} batches",
    )
