"""Checkpoints of work under way, through Orbax (its v1 API)."""

import pathlib
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

KEEP = 2  # the latest, and the one before it in case the latest cannot be read


class Checkpointer:
    """Saves and restores a tree of arrays by step; a half-written checkpoint is never seen.

    Args:
      directory: made on the first save; holds nothing but checkpoints.
    """

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._inner: Any = None

    def save(self, step: int, tree: Any) -> None:
        """Saves a tree of arrays (host or device); older checkpoints but one are removed."""
        self._open().save(step, jax.tree.map(np.asarray, tree), overwrite=True)

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """Returns `(step, tree)` of the latest checkpoint that can be read, or None.

        Args:
          like: a tree of the same structure with arrays or `jax.ShapeDtypeStruct`s; a checkpoint of
            other shapes is passed over.
        """
        if not self._directory.is_dir():
            return None
        shapes = jax.tree.map(lambda leaf: (tuple(leaf.shape), np.dtype(leaf.dtype)), like)
        for found in sorted(self._open().checkpoints, key=lambda item: item.step, reverse=True):
            try:
                tree = self._open().load(found.step, like)
            except Exception as error:  # noqa: BLE001 (whatever it is, the one before may be whole)
                print(f"checkpoint {found.step} in {self._directory} cannot be read: {error}")
                continue
            tree = jax.tree.map(np.asarray, tree)
            if jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) == shapes:
                return found.step, tree
        return None

    def close(self) -> None:
        """Waits for what is being written and lets go of the folder."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> Any:
        if self._inner is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Orbax types both as protocols that its own and pathlib's classes do not meet.
            self._inner = ocp.training.Checkpointer(
                self._directory.absolute(),  # pyright: ignore[reportArgumentType]
                preservation_policy=ocp.training.preservation_policies.LatestN(KEEP),  # pyright: ignore[reportArgumentType]
                cleanup_tmp_directories=True,
            )
        return self._inner
