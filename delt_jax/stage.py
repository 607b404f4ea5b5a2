"""A stage as the pipeline sees it, and its record: what its results were made from, and whether."""

import dataclasses
import pathlib
import shutil
from typing import Any

from delt_jax.runtime.workdir import WorkDir

ARRANGEMENT = ("data.workers",)  # parts of the config that decide no stage's result
SHOWN = 4  # changed options that are shown with their values; of more, the names
CLEARING = "clearing"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage as the pipeline sees it.

    Attributes:
      name: of `delt_jax.stages.<name>`, whose `run(config, workdir)` it is.
      needs: stages whose results it reads.
      reads: parts of the config that decide its result, as dotted paths.
      ignores: parts of those that do not (arrangement, logging, what each result file keys itself).
      additive: parts that name its results one by one. More may be asked for later, so the stage is
        entered every time and keeps what it has itself.
      named: of the values of those parts, the ones that name results of this stage, which is not
        entered again for others; () where all do.
      outputs: names of `WorkDir` attributes that hold its results.
      leftovers: what it goes on from where it is cut short, as globs in the work directory; gone
        once its record says that it is done.
      keeps: what a recomputed stage still has no need to make again, in words, and the options that
        may have changed for that; () where there is no such thing.
      always: cheap, and depends on everything: runs every time.
      shared: all hosts of a run work on it, each on its share; else the first one does it.
      opt_in: runs only where it is named, or where the option `wanted_by` is above 0.
      wanted_by: a dotted path, or "".
      memory: options of which less takes less of a device's memory; () where the stage sees to it.
    """

    name: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    ignores: tuple[str, ...] = ()
    additive: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    keeps: tuple[()] | tuple[str, tuple[str, ...]] = ()
    always: bool = False
    shared: bool = False
    opt_in: bool = False
    wanted_by: str = ""
    memory: tuple[str, ...] = ()

    def inputs(self, values: dict[str, Any]) -> dict[str, Any]:
        """The config values that decide the result, by dotted path."""
        ignored = (*ARRANGEMENT, *self.ignores, *self.additive)
        inputs = {
            path: value
            for path, value in flatten(values).items()
            if any(path == read or path.startswith(f"{read}.") for read in self.reads)
            and path not in ignored
        }
        # No result of a deterministic run is to be mixed with others.
        return inputs | ({"deterministic": True} if values.get("deterministic") else {})

    def keeps_itself(self, values: dict[str, Any]) -> bool:
        """Whether results are asked for that the stage keeps one by one."""
        flat = flatten(values)
        return any(not self.named or set(self.named) & set(flat[part]) for part in self.additive)

    def write_record(self, values: dict[str, Any], workdir: WorkDir, seconds: float | None) -> None:
        """Says that the stage has begun (`seconds` None) or is done, and with what inputs."""
        record = {"inputs": self.inputs(values), "seconds": seconds}
        workdir.write_json(record_path(self.name, workdir), record)

    def is_done(self, values: dict[str, Any], workdir: WorkDir) -> bool:
        """Whether the result of these very inputs is there."""
        record = self._record(workdir)
        if record is None or record["seconds"] is None or record["inputs"] != self.inputs(values):
            return False
        return all(getattr(workdir, output).exists() for output in self.outputs)

    def changed(self, values: dict[str, Any], workdir: WorkDir, of_new: bool = True) -> list[str]:
        """Returns the inputs that differ from those that its results were begun with, sorted."""
        record = self._record(workdir)
        if record is None:
            return []
        before, now = record["inputs"], self.inputs(values)
        names = before.keys() | now.keys() if of_new else before.keys()
        return sorted(name for name in names if before.get(name) != now.get(name))

    def changes(self, values: dict[str, Any], workdir: WorkDir, of_new: bool = True) -> str:
        """How its inputs differ from those that its results were begun with; "" where not.

        Args:
          values: the config.
          workdir: holds the results.
          of_new: whether options count that the record does not know.
        """
        changed = self.changed(values, workdir, of_new)
        if not changed:
            return ""
        before, now = (self._record(workdir) or {})["inputs"], self.inputs(values)
        shown = [f"{n}: {before.get(n)!r} there, {now.get(n)!r} now" for n in changed[:SHOWN]]
        return "; ".join([*shown, *([", ".join(changed[SHOWN:])] if changed[SHOWN:] else [])])

    def mark_for_clearing(self, workdir: WorkDir) -> None:
        """Says that the results are to go; until `clear` has ended they are nobody's."""
        if record_path(self.name, workdir).exists():
            record = {"inputs": {}, "seconds": None, CLEARING: True}
            workdir.write_json(record_path(self.name, workdir), record)

    def is_being_cleared(self, workdir: WorkDir) -> bool:
        """Whether a kill came between `mark_for_clearing` and the end of `clear`."""
        return CLEARING in (self._record(workdir) or {})

    def clear(self, workdir: WorkDir) -> None:
        """Removes the results, the record last."""
        for output in self.outputs:
            path = getattr(workdir, output)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        record_path(self.name, workdir).unlink(missing_ok=True)

    def remove_leftovers(self, workdir: WorkDir) -> None:
        """Removes what the stage would have gone on from; for when it is done."""
        for pattern in self.leftovers:
            for path in workdir.path.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def _record(self, workdir: WorkDir) -> dict[str, Any] | None:
        path = record_path(self.name, workdir)
        return workdir.read_json(path) if path.exists() else None


def record_path(name: str, workdir: WorkDir) -> pathlib.Path:
    """Where a stage of that name says what it was begun with."""
    return workdir.stages / f"{name}.json"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's values by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
