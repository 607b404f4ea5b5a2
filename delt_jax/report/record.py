"""What a run left in its work directory, as plain values; all but the images may be missing."""

import dataclasses
import pathlib
from typing import Any

from delt_jax.errors import InputError
from delt_jax.export.manifest import ImageRecord, read_manifest
from delt_jax.runtime.metrics import read_metrics
from delt_jax.runtime.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One student trained on one set from one seed; accuracies in percent."""

    student: str
    set: str
    seed: int
    top1: float
    best: float | None
    epochs: int | None
    seconds: float | None
    curve: tuple[tuple[float, float], ...]  # (epoch, top-1) where it was tested
    per_class: tuple[float | None, ...]  # top-1 of each class
    class_names: tuple[str, ...]
    labels: str = "soft"  # what it learned: the teacher's, "hard" ones (the classes), or "stored"


@dataclasses.dataclass(frozen=True)
class ContinualStep:
    """One student after one step of continual learning; its accuracy on the classes seen."""

    student: str
    set: str
    seed: int
    step: int  # from 1
    classes: int  # seen
    top1: float


@dataclasses.dataclass(frozen=True)
class Record:
    """A run. Dictionaries are the files as they were written, empty where there is none."""

    config: dict[str, Any]
    teacher: dict[str, Any]
    schedule: dict[str, Any]
    labels: dict[str, Any]
    manifest: dict[str, Any]  # its header
    images: tuple[ImageRecord, ...]
    evaluations: tuple[Evaluation, ...]
    diversity: dict[str, dict[str, Any]]  # set -> as `stages.diversity` says
    continual: tuple[ContinualStep, ...]
    fairness: dict[str, Any]
    metrics: list[dict[str, Any]]
    stage_seconds: dict[str, float]  # of the latest run of each stage that has ended

    def evaluations_with(self, labels: str) -> tuple[Evaluation, ...]:
        """Those of students that learned "soft", "hard" or "stored" labels."""
        return tuple(e for e in self.evaluations if e.labels == labels)


def read_record(workdir: WorkDir) -> Record:
    """Reads a work directory; raises `InputError` where there is no distilled set to report on."""
    evaluations, diversity = _read_evaluations(workdir)
    manifest = read_manifest(workdir.distilled)
    return Record(
        config=_optional(workdir, workdir.config_json),
        teacher=_optional(workdir, workdir.teacher / "card.json"),
        schedule=_optional(workdir, workdir.schedule_json),
        labels=_optional(workdir, workdir.labels / "labels.json"),
        manifest=manifest.header,
        images=manifest.records,
        evaluations=evaluations,
        diversity=diversity,
        continual=_read_continual(workdir),
        fairness=_optional(workdir, workdir.fairness_json),
        metrics=read_metrics(workdir.metrics_jsonl),
        stage_seconds=_read_stage_seconds(workdir),
    )


def config_value(config: dict[str, Any], path: str, default: Any = None) -> Any:
    """`config["a"]["b"]` for `"a.b"`, or `default` where any of it is missing."""
    value: Any = config
    for name in path.split("."):
        if not isinstance(value, dict) or value.get(name) is None:
            return default
        value = value[name]
    return value


def _optional(workdir: WorkDir, path: pathlib.Path) -> dict[str, Any]:
    return workdir.read_json(path) if path.exists() else {}


def _read_stage_seconds(workdir: WorkDir) -> dict[str, float]:
    records = {path.stem: workdir.read_json(path) for path in sorted(workdir.stages.glob("*.json"))}
    seconds = {name: record.get("seconds") for name, record in records.items()}
    return {name: value for name, value in seconds.items() if value is not None}


def _read_evaluations(
    workdir: WorkDir,
) -> tuple[tuple[Evaluation, ...], dict[str, dict[str, Any]]]:
    """Reads evaluation/*.json: one file per student, set and seed, and diversity.json."""
    evaluations, diversity = [], {}
    for path in sorted(workdir.evaluation.glob("*.json")):
        value = workdir.read_json(path)
        if path.name == "diversity.json":
            diversity = value
            continue
        try:
            evaluations.append(
                Evaluation(
                    student=value["student"],
                    set=value["set"],
                    seed=value["seed"],
                    top1=value["top1"],
                    best=value.get("best_top1"),
                    epochs=value.get("epochs"),
                    seconds=value.get("seconds"),
                    curve=tuple((epoch, top1) for epoch, top1 in value.get("curve", ())),
                    per_class=tuple(value.get("per_class", ())),
                    class_names=tuple(value.get("class_names", ())),
                    labels=value.get("labels", "soft"),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: no evaluation ({type(error).__name__}: {error}); delete it to remake it"
            ) from None
    return tuple(evaluations), diversity


def _read_continual(workdir: WorkDir) -> tuple[ContinualStep, ...]:
    """Reads continual/*.json: one file per student, set, seed and step."""
    found = []
    names = [field.name for field in dataclasses.fields(ContinualStep)]
    for path in sorted(workdir.continual.glob("*.json")):
        value = workdir.read_json(path)
        try:
            found.append(ContinualStep(**{name: value[name] for name in names}))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no step of continual learning ({type(error).__name__}: {error}); delete "
                "it to remake it"
            ) from None
    return tuple(found)
