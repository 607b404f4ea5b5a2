"""EarlyLate on paper: which slot joins when, what it costs, and how lr and crop move with time.

Plain Python and NumPy in float64; nothing here touches a device.

Source: DELT (arXiv 2411.19946) section 3; VILA-Lab/DELT `recover/recover.py` at f2f81ca.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from delt_jax.errors import InputError

Curriculum = Literal["cosine", "linear", "step"]
Layout = Literal["class", "across"]
LAYOUTS: tuple[Layout, ...] = ("class", "across")
CURRICULA: tuple[Curriculum, ...] = ("cosine", "linear", "step")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long images are optimised and when they join.

    Attributes:
      ipc: images per class.
      iterations: iterations of the images that join first (the paper's T, or MI); 0: no synthesis,
        the images stay as they are.
      round_iterations: iterations between two joins (the paper's RI); must divide `iterations`.
      early_late: deal the images of a class to rounds; otherwise all are optimised from the start.
      min_iterations: 0, or the fewest iterations of a class; each class then gets a random number
        of rounds between `min_iterations // round_iterations` and all of them, and EarlyLate is on.
    """

    ipc: int
    iterations: int
    round_iterations: int
    early_late: bool = True
    min_iterations: int = 0

    def __post_init__(self):
        for name, least in (("ipc", 1), ("iterations", 0), ("round_iterations", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: got {getattr(self, name)}, expected at least {least}")
        if self.iterations % self.round_iterations:
            raise InputError(
                f"round_iterations: got {self.round_iterations}, which does not divide "
                f"iterations = {self.iterations}"
            )
        if not 0 <= self.min_iterations <= self.iterations:
            raise InputError(
                f"min_iterations: got {self.min_iterations}, expected 0 (off) to "
                f"iterations = {self.iterations}"
            )

    @property
    def rounds(self) -> int:
        """M, the number of rounds."""
        return self.iterations // self.round_iterations

    @property
    def random_rounds(self) -> bool:
        """Whether each class draws its number of rounds."""
        return 0 < self.min_iterations < self.iterations


def deal(ipc: int, rounds: int) -> list[int]:
    """Deals the images of a class, in rank order, to rounds.

    Every round gets `ipc // rounds`; **the first** `ipc % rounds` rounds get one more.

    Args:
      ipc: images of the class.
      rounds: number of rounds M.

    Returns:
      The join round of each rank, `ipc` integers, ascending. IPC 10, M 8: 0 0 1 1 2 3 4 5 6 7.
    """
    counts = [ipc // rounds + (r < ipc % rounds) for r in range(rounds)]
    return [r for r, count in enumerate(counts) for _ in range(count)]


def class_rounds(schedule: Schedule, num_classes: int, seed: Sequence[int]) -> np.ndarray:
    """Rounds of each class, int64 `[num_classes]`: all M, or drawn where `min_iterations` is set.

    Args:
      schedule: the schedule.
      num_classes: number of classes.
      seed: entropy of the draw (`numpy.random.default_rng`).
    """
    if not schedule.random_rounds:
        return np.full(num_classes, schedule.rounds)
    fewest = max(schedule.min_iterations // schedule.round_iterations, 1)
    return np.random.default_rng(seed).integers(fewest, schedule.rounds + 1, num_classes)


@dataclasses.dataclass(frozen=True)
class ClassBatch:
    """The slots optimised together, in the order of their join rounds, and when each is active.

    Attributes:
      slots: position of each slot in the class-major sequence of all images, int64 `[b]`.
      labels: class of each slot, int64 `[b]`.
      ranks: rank of each slot within its class, int64 `[b]`.
      join: round at which each slot joins (empty leading rounds dropped), int64 `[b]`, ascending.
      leave: round at which it leaves again, int64 `[b]`; `rounds` unless classes draw their rounds.
      rounds: rounds of this batch.
      round_iterations: iterations of a round.
    """

    slots: np.ndarray
    labels: np.ndarray
    ranks: np.ndarray
    join: np.ndarray
    leave: np.ndarray
    rounds: int
    round_iterations: int

    @property
    def iterations(self) -> int:
        """T of this batch: learning rate and curriculum run over it."""
        return self.rounds * self.round_iterations

    def prefix(self, r: int) -> int:
        """n_r: how many slots have joined by round `r`; they are the first ones."""
        return int(np.searchsorted(self.join, r, side="right"))

    def active(self, r: int) -> np.ndarray:
        """bool `[b]`: slots that are optimised in round `r`."""
        return (self.join <= r) & (r < self.leave)

    @property
    def image_iterations(self) -> int:
        """Active images summed over all iterations."""
        return int((self.leave - self.join).sum()) * self.round_iterations


def class_batches(
    schedule: Schedule,
    num_classes: int,
    batch_size: int,
    rounds_of_class: np.ndarray | None = None,
    layout: str = "class",
) -> list[ClassBatch]:
    """Cuts the images into class batches and plans each.

    The slots are numbered by class, then rank. With layout "class" (DELT, G-VBSM, WMDD) a batch is
    the next `batch_size` of them, so it may hold a part of a class (IPC 200, batch 100). With
    "across" (SRe2L, CDA) it holds images of one rank, of as many classes; so it is smaller where
    there are fewer. Rounds in which a batch has nothing to do are dropped: its learning rate and
    curriculum are those of the shortened run.

    Args:
      schedule: the schedule.
      num_classes: number of classes k.
      batch_size: slots of a class batch; the last one may be smaller.
      rounds_of_class: int `[k]`, from `class_rounds`; None: all rounds for each.
      layout: one of `LAYOUTS`.

    Returns:
      The class batches in order; their slots partition `range(k * ipc)`.
    """
    if batch_size < 1:
        raise InputError(f"class_batch: got {batch_size}, expected at least 1")
    if layout not in LAYOUTS:
        raise InputError(f"layout: got {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if rounds_of_class is None:
        rounds_of_class = np.full(num_classes, schedule.rounds)
    deals = schedule.rounds > 0 and (schedule.early_late or schedule.random_rounds)
    ranks = np.tile(np.arange(schedule.ipc), num_classes)
    labels = np.repeat(np.arange(num_classes), schedule.ipc)
    leave = rounds_of_class[labels]
    if deals:
        join = np.concatenate([deal(schedule.ipc, int(r)) for r in rounds_of_class])
    else:
        join = np.zeros_like(ranks)
    # Sequences, none of which shares a batch with another.
    sequences = np.arange(len(labels)).reshape(num_classes, schedule.ipc)
    sequences = sequences.reshape(1, -1) if layout == "class" else sequences.T
    batches = []
    for sequence in sequences:
        for start in range(0, len(sequence), batch_size):
            slots = sequence[start : start + batch_size]
            slots = slots[np.argsort(join[slots], kind="stable")]
            batches.append(_without_empty_rounds(schedule, slots, labels, ranks, join, leave))
    return batches


def _without_empty_rounds(schedule, slots, labels, ranks, join, leave) -> ClassBatch:
    rounds = int(leave[slots].max())
    busy = [np.any((join[slots] <= r) & (r < leave[slots])) for r in range(rounds)]
    busy = np.array(busy, bool)
    renumbered = np.concatenate([[0], np.cumsum(busy)])  # old round -> busy rounds before it
    return ClassBatch(
        slots=slots,
        labels=labels[slots],
        ranks=ranks[slots],
        join=renumbered[join[slots]],
        leave=renumbered[leave[slots]],
        rounds=int(busy.sum()),
        round_iterations=schedule.round_iterations,
    )


def constant_image_iterations(schedule: Schedule, num_classes: int) -> int:
    """Image-iterations if all images were optimised for all iterations."""
    return num_classes * schedule.ipc * schedule.iterations


def learning_rates(peak: float, iterations: int) -> np.ndarray:
    """Cosine decay without warm-up: `peak * 0.5 (1 + cos(pi t / T))`, float64 `[T]`."""
    t = np.arange(iterations)
    return 0.5 * (1 + np.cos(np.pi * t / iterations)) * peak


def min_crop_scales(
    curriculum: str, milestone: float, iterations: int, smallest: float = 0.08
) -> np.ndarray:
    """Smallest share of the area that a random crop may take, by iteration (CDA's curriculum).

    Easy to hard: from the whole image down to `smallest` while t < milestone T, then `smallest`.

    Args:
      curriculum: "cosine", "linear" or "step" (1 until the milestone).
      milestone: share of the run after which the curriculum ends, in [0, 1]; 0 turns it off.
      iterations: T.
      smallest: the final share (.08 in the paper).

    Returns:
      float64 `[T]`.
    """
    if curriculum not in CURRICULA:
        raise InputError(
            f"crop_curriculum: got {curriculum!r}, expected one of {', '.join(CURRICULA)}"
        )
    if not 0 <= milestone <= 1:
        raise InputError(f"milestone: got {milestone}, expected 0 to 1")
    t = np.arange(iterations)
    end = milestone * iterations
    share = t / end if end > 0 else np.ones(iterations)
    curve = {
        "cosine": (1 + np.cos(np.pi * share)) / 2,
        "linear": 1 - share,
        "step": np.ones(iterations),
    }[curriculum]
    return np.where(t < end, smallest + (1 - smallest) * curve, smallest)


def saved_share(image_iterations: int, constant: int) -> float:
    """Share of the image-iterations that the schedule saves against constant iterations."""
    return 1 - image_iterations / constant if constant else math.nan
