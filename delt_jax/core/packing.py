"""Packs: class batches side by side in one array, so that small rounds still fill a device."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from delt_jax.core.schedule import ClassBatch
from delt_jax.core.synthesis import Slots


@dataclasses.dataclass(frozen=True)
class Pack:
    """Class batches that run side by side, padded to one shape with slots that never join.

    Attributes:
      batches: the class batches; all have the same number of rounds.
      indices: their numbers in the run, which name their random streams.
      labels: int32 `[g, b]`.
      join: round at which a slot joins, int32 `[g, b]`; `rounds` for padding.
      leave: round at which it leaves, int32 `[g, b]`.
    """

    batches: tuple[ClassBatch, ...]
    indices: tuple[int, ...]
    labels: np.ndarray
    join: np.ndarray
    leave: np.ndarray

    @property
    def rounds(self) -> int:
        """Rounds of every batch of the pack."""
        return self.batches[0].rounds

    @property
    def round_iterations(self) -> int:
        """Iterations of a round."""
        return self.batches[0].round_iterations

    @property
    def iterations(self) -> int:
        """T of every batch of the pack."""
        return self.batches[0].iterations

    def prefix(self, r: int) -> int:
        """Slots of the widest prefix in round `r`; every slot that has joined is among them."""
        return max(batch.prefix(r) for batch in self.batches)

    def active_count(self, r: int) -> int:
        """Slots that are optimised in round `r`, over all batches."""
        return int(np.sum((self.join <= r) & (r < self.leave)))

    def image_iterations(self, t: int) -> int:
        """Active slots summed over the first `t` iterations, over all batches."""
        whole, rest = divmod(t, self.round_iterations)
        done = self.round_iterations * sum(self.active_count(r) for r in range(whole))
        return done + (rest * self.active_count(whole) if rest else 0)

    def slots(self, r: int, n: int) -> Slots:
        """Facts of the first `n` slots in round `r`, `[g, n]`."""
        join, leave = self.join[:, :n], self.leave[:, :n]
        return Slots(
            labels=jnp.asarray(self.labels[:, :n]),
            active=jnp.asarray((join <= r) & (r < leave)),
            joined=jnp.asarray(join <= r),
            start=jnp.asarray(join * self.round_iterations),
        )

    def stack(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Stacks the images `[b_i, h, w, c]` of each class batch to `[g, b, h, w, c]`, padded."""
        packed = np.zeros((*self.labels.shape, *images[0].shape[1:]), images[0].dtype)
        for row, own in zip(packed, images, strict=False):
            row[: len(own)] = own
        return packed

    def split(self, packed: np.ndarray) -> list[np.ndarray]:
        """The images `[b_i, h, w, c]` of each class batch, without the padding."""
        return [row[: len(batch.slots)] for row, batch in zip(packed, self.batches, strict=False)]

    def keys(self, base: Key[Array, ""]) -> Key[Array, "g"]:
        """One random stream per class batch, whatever it is packed with."""
        padding = [0] * (len(self.labels) - len(self.indices))
        return jax.vmap(lambda i: jax.random.fold_in(base, i))(
            jnp.asarray([*self.indices, *padding], jnp.int32)
        )


def make_packs(
    batches: Sequence[ClassBatch],
    width: int,
    multiple: int = 1,
    indices: Sequence[int] | None = None,
) -> list[Pack]:
    """Groups class batches of equally many rounds into packs of at most `width`.

    Args:
      batches: class batches of the run.
      width: class batches side by side (per device times devices).
      multiple: the number of rows is made a multiple of this (devices) with empty batches.
      indices: numbers of the batches in the run; None: they are all of it.

    Returns:
      Packs whose `indices` partition those of the batches. Packs of a group are equally wide, so
      that they share their programs, and as even as can be, so that little is padding.
    """
    numbered = list(zip(range(len(batches)) if indices is None else indices, batches, strict=True))
    groups: dict[int, list[tuple[int, ClassBatch]]] = {}
    for index, batch in numbered:
        groups.setdefault(batch.rounds, []).append((index, batch))
    packs = []
    for group in groups.values():
        count = -(-len(group) // width)
        rows = -(-len(group) // count)
        rows = -(-rows // multiple) * multiple
        size = max(len(batch.slots) for _, batch in group)
        for start in range(0, len(group), rows):
            packs.append(_pack(group[start : start + rows], rows, size))
    return packs


def _pack(numbered: Sequence[tuple[int, ClassBatch]], rows: int, size: int) -> Pack:
    indices, chosen = zip(*numbered, strict=True)
    labels = np.zeros((rows, size), np.int32)
    join = np.full((rows, size), chosen[0].rounds, np.int32)
    leave = join.copy()
    for row, batch in enumerate(chosen):
        n = len(batch.slots)
        labels[row, :n], join[row, :n], leave[row, :n] = batch.labels, batch.join, batch.leave
    return Pack(chosen, indices, labels, join, leave)
