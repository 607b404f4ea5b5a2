"""Which stages run, in what order, and what is done already."""

import dataclasses
import importlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from delt_jax import __version__
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError
from delt_jax.runtime import hosts
from delt_jax.runtime.mesh import describe_devices
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import dry_run, preflight
from delt_jax.stages.option_kinds import did_you_mean
from delt_jax.stages.planning import Plan


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
      always: cheap, and depends on everything: runs every time.
      shared: all hosts of a run work on it, each on its share; else the first one does it.
      opt_in: runs only where it is named, or where the option `wanted_by` is above 0.
      wanted_by: a dotted path, or "".
    """

    name: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    ignores: tuple[str, ...] = ()
    additive: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    always: bool = False
    shared: bool = False
    opt_in: bool = False
    wanted_by: str = ""


STAGES: tuple[Stage, ...] = (
    Stage("squeeze", (), ("seed", "data", "teacher"), outputs=("teacher",)),
    Stage(
        "select",
        ("squeeze",),
        ("seed", "ipc", "data", "select"),
        ignores=("select.batch_size",),
        outputs=("ranking_csv", "selection_csv"),
        shared=True,
    ),
    Stage(
        "synthesize",
        ("squeeze", "select"),
        ("seed", "ipc", "data", "synthesis", "distilled"),
        ignores=(
            "synthesis.class_batches_per_device",
            "synthesis.sliced",
            "synthesis.steps_per_call",
            "synthesis.log_every",
            "synthesis.checkpoint_minutes",
        ),
        outputs=("distilled", "synthesis"),
        shared=True,
    ),
    Stage(
        "relabel",
        ("squeeze", "synthesize"),
        (
            "seed",
            *(f"evaluate.{name}" for name in ("temperature", "augment", "cutmix", "mixup")),
            # Of stored labels alone:
            *(f"evaluate.{name}" for name in ("labels", "epochs", "batch_size", "min_scale")),
            *(f"evaluate.{name}" for name in ("flip", "compute_dtype")),
            "labels",
        ),
        additive=("evaluate.labels",),
        named=("stored",),
        outputs=("labels",),
    ),
    Stage(
        "evaluate",
        ("squeeze", "select", "synthesize", "relabel"),
        ("data", "evaluate"),
        ignores=("evaluate.real_images", "evaluate.seeds_at_once"),
        additive=("evaluate.students", "evaluate.sets", "evaluate.labels", "evaluate.seeds"),
        outputs=("evaluation",),
        shared=True,
    ),
    Stage(
        "continual",
        ("squeeze", "select", "synthesize", "relabel"),
        ("data", "evaluate", "continual"),
        ignores=(
            "evaluate.eval_every",
            "evaluate.labels",
            "evaluate.real_images",
            "evaluate.seeds_at_once",
        ),
        additive=("evaluate.students", "evaluate.sets", "evaluate.seeds"),
        outputs=("continual",),
        shared=True,
        opt_in=True,
        wanted_by="continual.steps",
    ),
    Stage(
        "fairness",
        ("squeeze", "synthesize", "evaluate"),
        ("data", "evaluate", "fairness"),
        ignores=("evaluate.real_images", "evaluate.seeds_at_once"),
        additive=("evaluate.sets", "evaluate.labels", "evaluate.seeds", "fairness.learning_rates"),
        outputs=("fairness",),
        shared=True,
        opt_in=True,
    ),
    Stage("report", ("synthesize",), ("report",), outputs=("results_json",), always=True),
    # Last, for its cards quote results.json; always, since an export is made anew where it is asked
    # for, with whatever options, and all else stays.
    Stage("export", ("synthesize",), ("export",), outputs=("export",), always=True),
)
NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)
ARRANGEMENT = ("data.workers",)  # parts of the config that decide no stage's result


def announce(config: Any, workdir: WorkDir, stages: Sequence[str] | None = None) -> str:
    """What a run is about to do and what its synthesis costs, for people; stages as in `run`.

    Raises:
      InputError: for an unknown stage, or whatever is wrong with the config.
    """
    stages = _chosen(config, stages)
    spec, plan = preflight.check(config)
    if "select" in stages and not os.path.exists(workdir.selection_csv):  # noqa: PTH110 (never raises)
        preflight.check_images(config, spec)
    return _announcement(config, workdir, stages, spec, plan)


def _announcement(
    config: Any, workdir: WorkDir, stages: Sequence[str], spec: DatasetSpec, plan: Plan
) -> str:
    return "\n".join(
        [
            f"delt_jax {__version__}: {spec.name}, {spec.num_classes} classes, IPC {config.ipc}",
            f"  devices     {describe_devices()}",
            f"  workdir     {workdir.path}",
            f"  stages      {', '.join(name for name in NAMES if name in stages)}",
            f"  synthesize  {plan.describe()}",
        ]
    )


def estimate(config: Any, workdir: WorkDir, stages: Sequence[str] | None = None) -> str:
    """`announce`, and what the run would cost; computes and writes nothing of it.

    Raises:
      InputError: as `announce`.
    """
    stages = _chosen(config, stages)
    spec, plan = preflight.check(config)
    announced = _announcement(config, workdir, stages, spec, plan)
    return f"{announced}\n\n{dry_run.report(config, spec, plan, stages)}"


def run(
    config: Any,
    workdir: WorkDir,
    stages: Sequence[str] | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs stages in their order; one that is done with the same inputs is skipped.

    Args:
      config: the resolved config.
      workdir: the work directory.
      stages: names, in any order; None for all but those to opt into.
      overwrite: recompute stages that were made with another config, and what depends on them;
        otherwise such a stage is refused.
      say: takes the lines for people.

    Returns:
      The result of each stage that ran, on this host.

    Raises:
      InputError: for an unknown stage, a stage whose config has changed, or a result of an earlier
        stage that is missing.
    """
    stages = _chosen(config, stages)
    workdir.create()
    crew = hosts.current()
    _check_shared(workdir, crew)
    values = json.loads(json.dumps(config.to_dict()))  # as they will be read back: tuples are lists
    wanted = [stage for stage in STAGES if stage.name in stages]
    if crew.is_first:
        for stage in wanted:
            _settle_changes(stage, values, workdir, overwrite, say)
        workdir.write_json(workdir.config_json, values)
    crew.wait("settled")
    results = {}
    for stage in wanted:
        again = stage.always or _keeps_itself(stage, values)
        if crew.agree("done", not again and _is_done(stage, values, workdir)):
            if crew.is_first:
                say(f"{stage.name}: done before, kept")
            continue
        for need in stage.needs:
            if need not in stages and not _record_path(need, workdir).exists():
                raise InputError(
                    f"stage {stage.name}: needs the result of stage {need} in {workdir.path}; "
                    f"expected --stages={need},{stage.name} or a work directory that has it"
                )
        if crew.is_first:
            _write_record(stage, values, workdir, None)
        if crew.is_first or stage.shared:
            module = importlib.import_module(f"delt_jax.stages.{stage.name}")
            start = time.monotonic()
            results[stage.name] = module.run(config, workdir)
            seconds = time.monotonic() - start
            if crew.is_first:
                _write_record(stage, values, workdir, seconds)
                say(f"{stage.name}: {seconds:.1f} s")
        crew.wait(stage.name)
    return results


def _check_shared(workdir: WorkDir, crew: hosts.Hosts) -> None:
    """Checks that all hosts see one work directory."""
    mark = workdir.path / ".shared"
    word = crew.agree("mark", f"{time.time_ns()}")
    if crew.is_first and crew.count > 1:
        workdir.write_text(mark, word)
    crew.wait("mark")
    if crew.count > 1 and (not mark.is_file() or mark.read_text() != word):
        raise InputError(
            f"workdir {workdir.path}: host {crew.index} does not see what host 0 writes there; "
            "expected a folder on a file system that all hosts share"
        )
    crew.wait("marked")
    if crew.is_first:
        mark.unlink(missing_ok=True)


def _chosen(config: Any, stages: Sequence[str] | None) -> Sequence[str]:
    """The stages that were named, checked; else all but those to opt into."""
    if stages is None:
        flat = _flatten(config.to_dict())
        return [
            stage.name
            for stage in STAGES
            if not stage.opt_in or (stage.wanted_by and flat[stage.wanted_by] > 0)
        ]
    unknown = [name for name in stages if name not in NAMES]
    if unknown:
        raise InputError(
            f"stages: got {unknown[0]!r}, expected some of {', '.join(NAMES)}"
            f"{did_you_mean(unknown[0], NAMES)}"
        )
    return stages


def _record_path(name: str, workdir: WorkDir):
    return workdir.stages / f"{name}.json"


def _inputs(stage: Stage, values: dict[str, Any]) -> dict[str, Any]:
    """The config values that decide a stage's result, by dotted path."""
    flat = _flatten(values)
    ignored = (*ARRANGEMENT, *stage.ignores, *stage.additive)
    return {
        path: value
        for path, value in flat.items()
        if any(path == read or path.startswith(f"{read}.") for read in stage.reads)
        and path not in ignored
    }


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _keeps_itself(stage: Stage, values: dict[str, Any]) -> bool:
    """Whether results are asked for that the stage keeps one by one."""
    flat = _flatten(values)
    return any(not stage.named or set(stage.named) & set(flat[part]) for part in stage.additive)


def _write_record(stage: Stage, values: dict, workdir: WorkDir, seconds: float | None) -> None:
    """Says that a stage has begun (`seconds` None) or is done, and with what inputs."""
    record = {"inputs": _inputs(stage, values), "seconds": seconds}
    workdir.write_json(_record_path(stage.name, workdir), record)


def _is_done(stage: Stage, values: dict[str, Any], workdir: WorkDir) -> bool:
    path = _record_path(stage.name, workdir)
    if not path.exists():
        return False
    record = workdir.read_json(path)
    if record["seconds"] is None or record["inputs"] != _inputs(stage, values):
        return False
    return all(getattr(workdir, output).exists() for output in stage.outputs)


def _settle_changes(
    stage: Stage, values: dict, workdir: WorkDir, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Refuses a stage begun with another config, or clears it and all that depends on it."""
    path = _record_path(stage.name, workdir)
    if not path.exists() or stage.always:
        return
    before, now = workdir.read_json(path)["inputs"], _inputs(stage, values)
    changed = sorted(
        name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
    )
    if not changed:
        return
    shown = "; ".join(f"{n}: {before.get(n)!r} there, {now.get(n)!r} now" for n in changed[:4])
    if not overwrite:
        raise InputError(
            f"{workdir.path} holds stage {stage.name} of another config ({shown}); expected the "
            "same config, another --workdir, or --overwrite to recompute it and what depends on it"
        )
    say(f"{stage.name}: recomputed ({shown})")
    _clear(stage, workdir)


def _clear(stage: Stage, workdir: WorkDir) -> None:
    for output in stage.outputs:
        path = getattr(workdir, output)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _record_path(stage.name, workdir).unlink(missing_ok=True)
    for dependent in STAGES:
        if stage.name in dependent.needs:
            _clear(dependent, workdir)
