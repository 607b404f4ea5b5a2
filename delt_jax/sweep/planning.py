"""What a sweep will run: the command of every point, and what points take over from others."""

import dataclasses
import pathlib
import runpy
import sys
from collections.abc import Sequence
from typing import Any

from delt_jax.errors import InputError
from delt_jax.runtime import strict_json
from delt_jax.runtime.command_line import import_from_here, resolve_config
from delt_jax.runtime.workdir import WorkDir, expanded
from delt_jax.sweep.points import Point, Sweep

# Parts of `select` that decide how images are scored; the mode only orders the scores.
SCORING = ("statistics", "crops", "factor", "images_per_class")


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A point as it will be run.

    Attributes:
      number: of the point, from 1.
      point: the point.
      workdir: its work directory.
      config: its config, resolved.
      arguments: of `delt_jax.main`.
      teacher: the earlier step that trains its teacher; None where it makes its own.
      ranking: the earlier step whose ranking it reuses; None where it scores images itself.
    """

    number: int
    point: Point
    workdir: WorkDir
    config: Any
    arguments: tuple[str, ...]
    teacher: "Step | None"
    ranking: "Step | None"

    @property
    def command(self) -> list[str]:
        """The command, for a subprocess."""
        return [sys.executable, "-m", "delt_jax.main", *self.arguments]

    @property
    def is_done(self) -> bool:
        """Whether its report was written last, for this very config."""
        run = self.workdir
        record = run.stages / "report.json"
        if not (run.config_json.exists() and run.results_json.exists() and record.exists()):
            return False
        if run.results_json.stat().st_mtime < run.config_json.stat().st_mtime:
            return False  # begun again since
        if run.read_json(record)["seconds"] is None:
            return False
        return run.read_json(run.config_json) == _as_json(self.config)

    @property
    def missing(self) -> str:
        """What it waits for, in words; "" where nothing."""
        for what, stage, other in (
            ("teacher", "squeeze", self.teacher),
            ("ranking", "select", self.ranking),
        ):
            if other is not None and not _has_result(other.workdir, stage):
                return f"the {what} of point {other.number} ({other.point.name}), which is not done"
        return ""


def load_sweep(file_and_argument: str) -> Sweep:
    """The sweep that `FILE.py:ARGUMENT` describes: what get_sweep(ARGUMENT) of FILE.py returns.

    Raises:
      InputError: where there is no such file or function, or an argument is wrong.
    """
    path, _, argument = file_and_argument.partition(":")
    file = expanded(path)
    if not file.is_file():
        raise InputError(f"--sweep: no file {path!r}; expected one like configs/sweeps.py")
    import_from_here()
    get_sweep = runpy.run_path(str(file)).get("get_sweep")
    sweep = get_sweep(argument) if callable(get_sweep) else None
    if not isinstance(sweep, Sweep):
        raise InputError(f"--sweep: {path} has no get_sweep(argument) that returns a Sweep")
    return sweep


def plan(sweep: Sweep, folder: pathlib.Path, extra: Sequence[str] = ()) -> list[Step]:
    """Resolves every point's config and decides what it takes over from an earlier one.

    A teacher that is trained here is trained once for every data set, architecture and recipe, and
    images are scored once by it, where points score whole images with the same statistics.

    Args:
      sweep: the points.
      folder: holds the work directories of all points.
      extra: further arguments of `delt_jax.main`, for every point.

    Raises:
      InputError: naming the point whose config is wrong.
    """
    steps: list[Step] = []
    teachers: dict[str, Step] = {}
    rankings: dict[str, Step] = {}
    for number, point in enumerate(sweep.points, 1):
        workdir = WorkDir(folder / point.name)
        arguments = [*point.arguments, *extra]
        try:
            config: Any = resolve_config(_of_config(arguments))
        except InputError as error:
            raise InputError(f"point {point.name}: {error}") from error
        teacher_key = _key(config, ("seed", "data", "teacher"))
        ranking_key = teacher_key + _key(config.select, SCORING)
        trains = not config.teacher.weights
        scores = not config.select.ranking and not config.select.crops
        teacher = teachers.get(teacher_key) if trains else None
        ranking = rankings.get(ranking_key) if scores else None
        if teacher:
            arguments.append(f"--config.teacher.weights={teacher.workdir.teacher}")
        if ranking:
            arguments.append(f"--config.select.ranking={ranking.workdir.ranking_csv}")
        if teacher or ranking:
            config = resolve_config(_of_config(arguments))
        arguments.append(f"--workdir={workdir.path}")
        step = Step(number, point, workdir, config, tuple(arguments), teacher, ranking)
        if trains:
            teachers.setdefault(teacher_key, step)
        if scores:
            rankings.setdefault(ranking_key, step)
        steps.append(step)
    return steps


def _of_config(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if argument.startswith(("--config=", "--config."))]


def _key(config: Any, names: Sequence[str]) -> str:
    values = _as_json(config)
    return strict_json.dumps([values[name] for name in names], sort_keys=True)


def _as_json(config: Any) -> dict[str, Any]:
    """The config as it is read back from config.json: tuples are lists."""
    return strict_json.plain(config.to_dict())


def _has_result(workdir: WorkDir, stage: str) -> bool:
    """Whether a stage of a run has ended."""
    record = workdir.stages / f"{stage}.json"
    return record.exists() and workdir.read_json(record)["seconds"] is not None
