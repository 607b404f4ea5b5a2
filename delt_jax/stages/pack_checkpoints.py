"""Checkpoints of packs: restored for the same class batches, however they are packed then."""

import dataclasses
import pathlib
import shutil
import zlib
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core.packing import Pack
from delt_jax.core.synthesis import State
from delt_jax.errors import InputError
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.save_points import SavePoints
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.planning import Plan

Share = list[tuple[str, list[int]]]  # a folder of checkpoints ("": none), class batches from it


@dataclasses.dataclass
class Cost:
    """What a pack has cost so far; kept in its checkpoints."""

    seconds: np.ndarray  # float64 [rounds], without compiling
    compile_seconds: np.ndarray  # float64 []

    @classmethod
    def none(cls, rounds: int) -> "Cost":
        """Of a pack that has not begun."""
        return cls(np.zeros(rounds), np.zeros(()))


class PackCheckpoints:
    """Those of a work directory, `synthesis/checkpoints`.

    A pack has a folder there; beside it, with .json, are the numbers of its class batches.

    Args:
      workdir: of the run.
      plan: of its synthesis.
      image_size: S.
    """

    def __init__(self, workdir: WorkDir, plan: Plan, image_size: int):
        self._workdir, self._plan, self._side = workdir, plan, image_size
        self._home = workdir.synthesis / "checkpoints"

    def under_way(self, remaining: Collection[int]) -> Share:
        """Which of the remaining class batches are under way, by folder.

        Where several hold a batch, as after a run on other devices, the furthest one does.
        """
        furthest: dict[int, tuple[int, str]] = {}
        for note in sorted(self._home.glob("*.json")):
            with Checkpointer(self._home / note.stem) as checkpointer:
                step = checkpointer.latest_step()
            for index in self._held(note) if step else ():
                if index in remaining:
                    furthest[index] = max(furthest.get(index, (0, "")), (step, note.stem))
        found: dict[str, list[int]] = {}
        for index, (_, folder) in sorted(furthest.items()):
            found.setdefault(folder, []).append(index)
        return list(found.items())

    def restore(self, folder: str, pack: Pack) -> tuple[int, State, Cost] | None:
        """Iteration, state and cost of a pack, from the last checkpoint of a folder that is whole.

        The folder is that of a pack with the same class batches, or more.
        """
        held = self._held(self._home / f"{folder}.json")
        size = max(len(self._plan.batches[index].slots) for index in held)
        images = jax.ShapeDtypeStruct((len(held), size, self._side, self._side, 3), np.float32)
        state, cost = dict.fromkeys(State._fields, images), Cost.none(pack.rounds)
        with Checkpointer(self._home / folder) as checkpointer:
            found = checkpointer.restore_latest({"state": state, "cost": dataclasses.asdict(cost)})
        if found is None:
            print(f"synthesize: no checkpoint in {self._home / folder} is whole; begun again")
            return None
        first, tree = found
        print(f"synthesize: going on from iteration {first:,} of {pack.iterations:,}")
        rows = [held.index(index) for index in pack.indices]
        kept = {
            name: [
                leaf[row][: len(batch.slots)] for row, batch in zip(rows, pack.batches, strict=True)
            ]
            for name, leaf in tree["state"].items()
        }
        # Stacked anew, because the state is donated: it must not share memory with tree.
        state = State(*(jnp.asarray(pack.stack(kept[name])) for name in State._fields))
        share = len(rows) / len(held)  # of what several packs may go on from
        seconds, compiling = tree["cost"]["seconds"], tree["cost"]["compile_seconds"]
        return first, state, Cost(share * seconds, share * compiling)

    def open(self, pack: Pack, points: SavePoints) -> "PackCheckpointer":
        """For saving a pack; a context."""
        return PackCheckpointer(self._workdir, self._folder(pack), pack, points)

    def discard(self, pack: Pack) -> None:
        """Removes those of a pack, once its images are written."""
        folder = self._folder(pack)
        folder.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def discard_all(self) -> None:
        """Removes those of all packs."""
        shutil.rmtree(self._home, ignore_errors=True)

    def _folder(self, pack: Pack) -> pathlib.Path:
        name = f"{pack.indices[0]:05d}-{zlib.crc32(repr(pack.indices).encode()):08x}"
        return self._home / name

    def _held(self, note: pathlib.Path) -> Sequence[int]:
        """The class batches of a folder; none where its note is damaged, which is said."""
        try:
            return self._workdir.read_json(note)
        except InputError as error:
            print(f"synthesize: {error}; its class batches are begun again")
            return ()


class PackCheckpointer:
    """Saves a pack where that is due; see `PackCheckpoints.open`."""

    def __init__(self, workdir: WorkDir, folder: pathlib.Path, pack: Pack, points: SavePoints):
        self._workdir, self._folder, self._pack, self._points = workdir, folder, pack, points
        self._inner = Checkpointer(folder)

    def __enter__(self) -> "PackCheckpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._inner.close()

    @property
    def is_due(self) -> bool:
        """Whether to call `save`."""
        return self._points.is_due

    def save(self, iteration: int, state: State, cost: Cost) -> None:
        """Saves what comes before an iteration; raises `Interrupted` where the run is to end."""
        self._workdir.write_json(self._folder.with_suffix(".json"), self._pack.indices)
        self._inner.save(iteration, _kept(self._pack, state, cost))
        self._points.saved()


def _kept(pack: Pack, state: State, cost: Cost) -> dict[str, Any]:
    """What is kept of a pack: none of its padding, which depends on the devices."""
    size = max(len(batch.slots) for batch in pack.batches)
    kept = jax.tree.map(lambda leaf: leaf[: len(pack.batches), :size], state)
    return {"state": kept._asdict(), "cost": dataclasses.asdict(cost)}
