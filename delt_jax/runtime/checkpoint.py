"""Checkpoints of work under way, through Orbax (its v1 API)."""

import contextlib
import hashlib
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from delt_jax.errors import in_one_line
from delt_jax.runtime import faults, hosts, interruption
from delt_jax.runtime.workdir import write_atomically

KEEP = 2  # the latest, and the one before it in case the latest cannot be read
SUFFIX = ".safetensors"
_SHOWN = 200  # letters of what a library says of a checkpoint that it cannot read
# What a disk said, in the traceback of another process: Python's words and TensorStore's.
_ERRNO = re.compile(r"(?:\[Errno |os_error_code=')(\d+)")


class Checkpointer:
    """Saves and restores a tree of arrays by step; a half-written checkpoint is never seen.

    In a run on several hosts each of them keeps checkpoints of its own share. Orbax saves and
    restores with all processes of a run together, so there they are safetensors files; each kind
    can be restored by either kind of run.

    Args:
      directory: made on the first save; holds nothing but checkpoints.
    """

    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        self._files = directory / "of_one_host"
        self._inner: Any = None

    def save(self, step: int, tree: Any) -> None:
        """Saves a tree of arrays (host or device); older checkpoints but one are removed.

        So are those of later steps: work that has not come so far has fallen back from them.
        """
        with interruption.unhurried():
            tree = _sealed(jax.tree.map(np.asarray, tree))
            self._remove_later(step)
            if hosts.current().count == 1:
                self._save_alone(step, tree)
                return
            _write(self._files / f"{step:09d}{SUFFIX}", tree)
            for old in sorted(self._files.glob(f"*{SUFFIX}"))[:-KEEP]:
                old.unlink()

    def restore_latest(self, like: Any) -> tuple[int, Any] | None:
        """Returns `(step, tree)` of the latest checkpoint that can be read, or None.

        Args:
          like: a tree of the same structure with arrays or `jax.ShapeDtypeStruct`s; a checkpoint of
            other shapes is passed over.
        """
        shapes = jax.tree.map(lambda leaf: (tuple(leaf.shape), np.dtype(leaf.dtype)), like)
        for step, path in self._found():
            try:
                tree = _unsealed(self._read(step, path, _blank(like)))
            except Exception as error:  # of a damaged file libraries raise almost anything
                if isinstance(error, MemoryError) or faults.explained(error):
                    raise  # the checkpoint may well be whole
                reason = in_one_line(str(error))[:_SHOWN]
                print(f"checkpoint {step} in {self._directory} cannot be read: {reason}")
                continue
            if jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) == shapes:
                return step, tree
        return None

    def latest_step(self) -> int:
        """Step of the latest checkpoint, whole or not; 0 where there is none."""
        return max((step for step, _ in self._found()), default=0)

    def close(self) -> None:
        """Waits for what is being written and lets go of the folder."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _found(self) -> list[tuple[int, pathlib.Path]]:
        """Step and path of every checkpoint, the latest first."""
        if not self._directory.is_dir():
            return []
        folders = [path for path in self._directory.iterdir() if path.name.isdecimal()]
        files = list(self._files.glob(f"[0-9]*{SUFFIX}"))
        return sorted(((int(path.stem), path) for path in [*folders, *files]), reverse=True)

    def _save_alone(self, step: int, tree: Any) -> None:
        try:
            with _unlogged(), faults.named(self._directory / str(step)):
                is_saved = self._open().save(step, tree, overwrite=True)
        except Exception:
            self._inner = None  # closing it would only raise the same again
            self._sweep()
            raise
        if not is_saved:
            raise RuntimeError(f"checkpoint {step} in {self._directory}: Orbax declined to save it")

    def _remove_later(self, step: int) -> None:
        later = [path for found, path in self._found() if found > step]
        if later:
            self.close()  # Orbax remembers what there was, and saves nothing before it
        for path in later:
            if path.suffix == SUFFIX:
                path.unlink()
            else:
                shutil.rmtree(path)

    def _sweep(self) -> None:
        """Removes the half of a checkpoint, which may well fill the disk that had no more room."""
        for left in self._directory.glob("*.orbax-checkpoint-tmp"):
            shutil.rmtree(left, ignore_errors=True)

    def _read(self, step: int, path: pathlib.Path, like: Any) -> Any:
        if path.suffix == SUFFIX:
            return _read(path, like)
        if hosts.current().count == 1:
            with _unlogged():
                return self._open().load(step, like)
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / f"copy{SUFFIX}"
            _convert_alone(path, copy)
            return _read(copy, like)

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


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps Orbax from logging, traceback and all, the error that it then raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sealed(tree: Any) -> dict[str, Any]:
    """A tree with its sum: a damaged byte of an array is none that Orbax or safetensors notice."""
    return {"tree": tree, "sha256": _sum(jax.tree.leaves(tree))}


def _blank(like: Any) -> dict[str, Any]:
    """What a sealed tree is restored like: arrays of the host, which take no memory themselves."""
    blank = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), like)
    return {"tree": blank, "sha256": np.zeros(32, np.uint8)}


def _unsealed(found: dict[str, Any]) -> Any:
    """The tree again; raises `ValueError` where it is not what was saved."""
    tree = jax.tree.map(np.asarray, found["tree"])
    if (np.asarray(found["sha256"]) != _sum(jax.tree.leaves(tree))).any():
        raise ValueError("its arrays have changed since they were saved")
    return tree


def _sum(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """SHA-256 of arrays, uint8 `[32]`."""
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _write(path: pathlib.Path, tree: Any) -> None:
    data = safetensors.numpy.save({name: np.array(leaf) for name, leaf in _named(tree).items()})
    write_atomically(path, data)


def _read(path: pathlib.Path, like: Any) -> Any:
    found = safetensors.numpy.load(path.read_bytes())
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in _named(like)])


def _convert(source: str, target: str) -> None:
    """Reads an Orbax checkpoint whole and writes it as a safetensors file."""
    _write(pathlib.Path(target), jax.tree.map(np.asarray, ocp.load(source)))


def _convert_alone(source: pathlib.Path, target: pathlib.Path) -> None:
    """`_convert` in a process of its own, for which Orbax has no other hosts to wait for."""
    call = f"from {__name__} import _convert; import sys; _convert(*sys.argv[1:])"
    arguments = [sys.executable, "-c", call, str(source.absolute()), str(target)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        raise MemoryError(f"{source}: the process that read it was killed, as for lack of memory")
    if done.returncode:
        words = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        numbers = _ERRNO.findall(done.stderr)
        raise OSError(int(numbers[-1]), words, str(source)) if numbers else OSError(words)
