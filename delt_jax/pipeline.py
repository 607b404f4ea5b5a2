"""Which stages run, in what order, and what is done already."""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from delt_jax import __version__
from delt_jax.core import compiling
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError, did_you_mean
from delt_jax.overrides import named
from delt_jax.runtime import faults, hosts, lock, strict_json
from delt_jax.runtime.mesh import describe_devices
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stage import Stage, flatten, record_path
from delt_jax.stages import dry_run, preflight
from delt_jax.stages.planning import Plan

_OF_IPC = (
    "no image stays, for another IPC chooses other images, and all images of a class are optimised "
    "together"
)
_STUDENTS_MEMORY = ("evaluate.seeds_at_once", "evaluate.batch_size")
STAGES: tuple[Stage, ...] = (
    Stage(
        "squeeze",
        (),
        ("seed", "data", "teacher"),
        outputs=("teacher",),
        leftovers=("teacher/.training-*",),
        memory=("teacher.squeeze.batch_size",),
    ),
    Stage(
        "select",
        ("squeeze",),
        ("seed", "ipc", "data", "select"),
        ignores=("select.batch_size",),
        outputs=("ranking_csv", "selection_csv"),
        keeps=("the scores of the images", ("ipc", "select.mode")),
        shared=True,
        memory=("select.batch_size", "select.crops"),
    ),
    Stage(
        "synthesize",
        ("squeeze", "select"),
        ("method", "seed", "ipc", "data", "synthesis", "distilled"),  # the name is in the manifest
        ignores=(
            "synthesis.class_batches_per_device",
            "synthesis.sliced",
            "synthesis.steps_per_call",
            "synthesis.log_every",
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
        memory=("ipc",),
    ),
    Stage(
        "evaluate",
        ("squeeze", "select", "synthesize", "relabel"),
        ("data", "evaluate"),
        ignores=("evaluate.real_images", "evaluate.seeds_at_once"),
        additive=("evaluate.students", "evaluate.sets", "evaluate.labels", "evaluate.seeds"),
        outputs=("evaluation",),
        shared=True,
        memory=_STUDENTS_MEMORY,
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
        memory=_STUDENTS_MEMORY,
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
        memory=_STUDENTS_MEMORY,
        opt_in=True,
    ),
    Stage("report", ("synthesize",), ("report",), outputs=("results_json",), always=True),
    # Last, for its cards quote results.json; always, since an export is made anew where it is asked
    # for, with whatever options, and all else stays.
    Stage("export", ("synthesize",), ("export",), outputs=("export",), always=True),
)
NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)


def announce(config: Any, workdir: WorkDir, stages: Sequence[str] | None = None) -> str:
    """What a run is about to do and what its synthesis costs, for people; stages as in `run`.

    Raises:
      InputError: for an unknown stage, or whatever is wrong with the config.
    """
    spec, plan, stages = _checked(config, workdir, stages)
    if "select" in stages and not os.path.exists(workdir.selection_csv):  # noqa: PTH110 (never raises)
        preflight.check_images(config, spec)
    return _announcement(config, workdir, stages, spec, plan)


def _announcement(
    config: Any, workdir: WorkDir, stages: Sequence[str], spec: DatasetSpec, plan: Plan
) -> str:
    return "\n".join(
        [
            f"delt_jax {__version__}: {spec.name}, {spec.num_classes} classes, IPC {config.ipc}",
            f"  method      {named(config.method, config.method_changes)}",
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
    spec, plan, stages = _checked(config, workdir, stages)
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
      InputError: for an unknown stage, a stage whose config has changed, a result of an earlier
        stage that is missing, or another run in the same work directory.
    """
    stages = _chosen(config, stages)
    workdir.create()
    if not hosts.current().is_first:  # the first one's lock is that of all
        return _run(config, workdir, stages, overwrite, say)
    with lock.held(workdir.path):
        workdir.clear_partial()
        return _run(config, workdir, stages, overwrite, say)


def _run(
    config: Any,
    workdir: WorkDir,
    stages: Sequence[str],
    overwrite: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    crew = hosts.current()
    _check_shared(workdir, crew)
    values = strict_json.plain(config.to_dict())  # as they will be read back: tuples are lists
    wanted = [stage for stage in STAGES if stage.name in stages]
    compiling.set_deterministic(bool(values.get("deterministic")))
    if crew.is_first:
        for stage in STAGES:
            if stage in wanted:
                _settle_changes(stage, values, workdir, overwrite, say)
            else:
                _refuse_changes(stage, values, workdir)
        workdir.write_json(workdir.config_json, values)
    crew.wait("settled")
    results = {}
    for stage in wanted:
        again = stage.always or stage.keeps_itself(values)
        if crew.agree("done", not again and stage.is_done(values, workdir)):
            if crew.is_first:
                stage.remove_leftovers(workdir)  # a kill may have come before this
                say(f"{stage.name}: done before, kept")
            continue
        for need in stage.needs:
            if need not in stages and not record_path(need, workdir).exists():
                raise InputError(
                    f"stage {stage.name}: needs the result of stage {need} in {workdir.path}; "
                    f"expected --stages={need},{stage.name} or a work directory that has it"
                )
        if crew.is_first:
            stage.write_record(values, workdir, None)
        if crew.is_first or stage.shared:
            start = time.monotonic()
            results[stage.name] = _run_stage(stage, config, workdir)
            seconds = time.monotonic() - start
            if crew.is_first:
                stage.write_record(values, workdir, seconds)
                stage.remove_leftovers(workdir)
                say(f"{stage.name}: {seconds:.1f} s")
        crew.wait(stage.name)
    return results


def _run_stage(stage: Stage, config: Any, workdir: WorkDir) -> Any:
    try:
        return importlib.import_module(f"delt_jax.stages.{stage.name}").run(config, workdir)
    except RuntimeError as error:
        if stage.memory and faults.is_out_of_device_memory(error):
            raise InputError(
                f"stage {stage.name}: out of the device's memory; expected a smaller "
                f"{' or '.join(stage.memory)}, or a device with more that is free"
            ) from error
        raise


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


def _checked(
    config: Any, workdir: WorkDir, stages: Sequence[str] | None
) -> tuple[DatasetSpec, Plan, Sequence[str]]:
    """What `preflight.check` returns, and the stages that were chosen."""
    preflight.check_options(config)  # first: they choose stages, too
    chosen = _chosen(config, stages)
    return *preflight.check(config, chosen, workdir), chosen


def _chosen(config: Any, stages: Sequence[str] | None) -> Sequence[str]:
    """The stages that were named, checked; else all but those to opt into."""
    if stages is None:
        flat = flatten(config.to_dict())
        return [
            stage.name
            for stage in STAGES
            if not stage.opt_in or (stage.wanted_by and flat[stage.wanted_by] > 0)
        ]
    if not stages:
        raise InputError(f"stages: got none, expected some of {', '.join(NAMES)}")
    unknown = [name for name in stages if name not in NAMES]
    if unknown:
        raise InputError(
            f"stages: got {unknown[0]!r}, expected some of {', '.join(NAMES)}"
            f"{did_you_mean(unknown[0], NAMES)}"
        )
    return stages


def _settle_changes(
    stage: Stage, values: dict, workdir: WorkDir, overwrite: bool, say: Callable[[str], None]
) -> None:
    """Refuses a stage begun with another config, or clears it and all that depends on it."""
    if stage.always:
        return
    if stage.is_being_cleared(workdir):
        say(f"{stage.name}: recomputed (an earlier --overwrite was cut short)")
        _clear(stage, workdir)
    elif shown := stage.changes(values, workdir):
        if not overwrite:
            raise InputError(
                f"{workdir.path} holds stage {stage.name} of another config ({shown}); expected "
                "the same config, another --workdir, or --overwrite to recompute it and what "
                f"depends on it: {_consequences(stage, values, workdir)}"
            )
        say(f"{stage.name}: recomputed ({shown}): {_consequences(stage, values, workdir)}")
        _clear(stage, workdir)


def _consequences(stage: Stage, values: dict, workdir: WorkDir) -> str:
    """Says what is made anew, what stays, and why there is no more of that."""
    dependent = [stage.name]
    for other in STAGES:
        if set(other.needs) & set(dependent) and other.name not in dependent:
            dependent.append(other.name)
    begun = [one.name for one in STAGES if record_path(one.name, workdir).exists()]
    kept = [name for name in begun if name not in dependent]
    changed = stage.changed(values, workdir)
    if stage.keeps and set(changed) <= set(stage.keeps[1]):
        kept.append(stage.keeps[0])
    anew = ", ".join(name for name in begun if name in dependent)
    stays = f", with {' and '.join(kept)} kept" if kept else ""
    why = f"; {_OF_IPC}" if "ipc" in changed else ""
    return f"{anew} anew{stays}{why}"


def _refuse_changes(stage: Stage, values: dict, workdir: WorkDir) -> None:
    """Refuses a config that another one's results would be taken for, of a stage left out."""
    if stage.always or stage.opt_in:
        return
    if stage.is_being_cleared(workdir):
        raise InputError(
            f"{workdir.path} holds what is left of stage {stage.name}, whose --overwrite was cut "
            f"short, and --stages leaves it out; expected {stage.name} among --stages"
        )
    if shown := stage.changes(values, workdir, of_new=False):
        raise InputError(
            f"{workdir.path} holds stage {stage.name} of another config ({shown}), and --stages "
            f"leaves it out; expected the same config, another --workdir, or {stage.name} among "
            "--stages with --overwrite"
        )


def _clear(stage: Stage, workdir: WorkDir) -> None:
    """Removes a stage's results and what depends on them; a kill leaves a mark to go on from."""
    stage.mark_for_clearing(workdir)
    for dependent in STAGES:
        if stage.name in dependent.needs:
            _clear(dependent, workdir)
    stage.clear(workdir)
