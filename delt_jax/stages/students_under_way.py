"""Students in training: what their checkpoints hold, and the places where they are taken."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from delt_jax.core.training import TrainState
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.save_points import SavePoints


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """What happened, epoch by epoch; arrays `[epochs]`, with an axis of seeds while several train.

    Attributes:
      loss: mean over the epoch's steps.
      top1: after the epoch, in percent; NaN where the student was not tested.
      seconds: from the start to the end of the epoch, tests and interrupted runs included.
    """

    loss: Float[np.ndarray, "*seeds epochs"]
    top1: Float[np.ndarray, "*seeds epochs"]
    seconds: Float[np.ndarray, "*seeds epochs"]

    def tested(self) -> list[tuple[int, float]]:
        """(epoch from 1, top-1) of every test."""
        epochs = np.flatnonzero(~np.isnan(self.top1))
        return [(int(epoch) + 1, float(self.top1[epoch])) for epoch in epochs]


class UnderWay:
    """Students of several seeds on their way through the epochs; a context.

    A checkpoint is named for the steps that are done of all epochs; where they end an epoch, that
    epoch is not tested yet.

    Attributes:
      state: of the students, donated from step to step.
      curves: of the epochs that are done, `[seeds, epochs]`.
      done: steps, of all epochs.

    Args:
      state: before the first step.
      sizes: images of each step of an epoch.
      students: how many seeds.
      epochs: of the whole training.
      checkpoints: folder of these students' checkpoints and of nothing else.
      save_minutes: between two checkpoints.
    """

    def __init__(
        self,
        state: TrainState,
        sizes: Int[np.ndarray, " steps"],
        students: int,
        epochs: int,
        checkpoints: pathlib.Path,
        save_minutes: float,
    ):
        self.state, self.done = state, 0
        self._saved_at = 0  # steps that were done then
        self.curves = Curve(*(np.full((students, epochs), np.nan) for _ in range(3)))
        self._sizes, self._losses = sizes, np.full((len(sizes), students), np.nan)
        self._waiting: list[tuple[int, Array]] = []  # steps and their losses, on the device
        self._checkpoints, self._points = Checkpointer(checkpoints), SavePoints(save_minutes)
        self._before, self._start = 0.0, time.monotonic()

    def __enter__(self) -> "UnderWay":
        return self

    def __exit__(self, *exception: object) -> None:
        self._checkpoints.close()

    @property
    def epoch(self) -> int:
        """The epoch under way, from 0; the one that has ended but is not tested yet."""
        return max(self.done - 1, 0) // len(self._sizes)

    @property
    def seconds(self) -> float:
        """Since the start, those of interrupted runs included."""
        return self._before + time.monotonic() - self._start

    def restore(self, placed: Callable[[Any], Any]) -> None:
        """Goes on from the latest checkpoint, if there is one; `placed` puts the state on devices.

        The state is copied, because it is donated and the checkpoint's memory is not ours.
        """
        restored = self._checkpoints.restore_latest(self._kept())
        if restored is None:
            return
        self.done, tree = restored
        self._saved_at = self.done
        self.state = placed(jax.tree.map(jnp.array, tree["state"]))
        self.curves = Curve(**{name: np.array(values) for name, values in tree["curve"].items()})
        self._losses, self._before = np.array(tree["losses"]), float(tree["seconds"])

    def step(self, state: TrainState, losses: Float[Array, "steps *seeds"], count: int) -> None:
        """Takes the state after some steps of an epoch, and the losses of the first `count`."""
        self.state, self.done = state, self.done + count
        self._waiting.append((count, losses))
        self.pause()

    def pause(self) -> None:
        """A place to save, and to end where the run is to end.

        What is saved is not saved again, as during a test: a checkpoint gives way to another of the
        same step before that one is whole.
        """
        if self._points.is_due:
            if self.done != self._saved_at:
                self._settle()
                self._checkpoints.save(self.done, self._kept())
                self._saved_at = self.done
            self._points.saved()

    def mean_losses(self) -> Float[np.ndarray, " seeds"]:
        """Of the epoch that has ended, each image weighing as much as any other."""
        self._settle()
        return np.average(self._losses, axis=0, weights=self._sizes)

    def _settle(self) -> None:
        """Fetches the losses that wait on the device."""
        first = self.done - sum(count for count, _ in self._waiting)
        for count, losses in self._waiting:
            place = first % len(self._sizes)
            self._losses[place : place + count] = np.asarray(losses)[:count].reshape(count, -1)
            first += count
        self._waiting = []

    def _kept(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "curve": dataclasses.asdict(self.curves),
            "losses": self._losses,
            "seconds": np.asarray(self.seconds),
        }
