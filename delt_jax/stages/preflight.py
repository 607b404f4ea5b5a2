"""Everything about a config that can be wrong, found before hours are spent on the rest."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from delt_jax.data.selection import check_class_sizes
from delt_jax.data.sources import open_source
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError
from delt_jax.models import pretrained, registry
from delt_jax.models.students import student_archs
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import continual, export, fairness, options, protocol, select
from delt_jax.stages.opening import describe, evenly_spaced
from delt_jax.stages.planning import Plan, make_plan
from delt_jax.stages.teacher_training import Recipe

_MOST_IMAGES = 10_000_000  # that a plan is made for; ImageNet-21K at IPC 50 has a tenth
_DIGITS_SIDE = 8  # in pixels, of digits that are opened to be counted


def check(
    config: Any, stages: Sequence[str] = (), workdir: WorkDir | None = None
) -> tuple[DatasetSpec, Plan]:
    """Checks a whole config against itself, the names that there are and the files it names.

    Args:
      config: the resolved config.
      stages: that are to run. What students, fairness and export ask of one another's options is
        checked for these alone.
      workdir: that they run in; None: no stages do.

    Returns:
      The data set's spec and the plan of its synthesis.

    Raises:
      InputError: for the first option that is wrong, with its value and what is expected.
    """
    check_options(config)
    ranking = config.select.ranking
    if ranking and not os.path.isfile(os.path.expanduser(ranking)):  # noqa: PTH111, PTH113 (never raise)
        raise InputError(f"select.ranking: got {ranking!r}, which is no file")
    export.read_options(config)
    with _about("data.source" if config.data.source else "data.name"):
        spec = describe(config)
    select.check(config, spec.image_size)
    if config.continual.steps:
        continual.check(config.continual, spec.num_classes)
    with _about("teacher.arch"):
        registry.check_teacher(config.teacher.arch)
    for path, names in (
        ("teacher.arch", [config.teacher.arch]),
        ("evaluate.students", [name for name in config.evaluate.students if name != "teacher"]),
    ):
        for name in names:
            with _about(f"{path} with data.image_size {spec.image_size}"):
                registry.create(name, spec.num_classes, spec.image_size)
    if config.teacher.weights:
        with _about("teacher.weights"):
            pretrained.check(config.teacher.weights, config.teacher.arch)
    for name in ("weights_key", "classes"):
        if (value := config.teacher[name]) and not config.teacher.weights:
            raise InputError(
                f"teacher.{name}: got {value!r} without teacher.weights, of which it says something"
            )
    images = config.ipc * spec.num_classes
    if images > _MOST_IMAGES:
        raise InputError(
            f"ipc: got {config.ipc}, which makes {images:,} images of {spec.num_classes} classes; "
            f"expected at most {_MOST_IMAGES:,} images"
        )
    if workdir is not None:
        _check_stages(config, spec, stages, workdir)
    return spec, make_plan(config, spec.num_classes)


def _check_stages(config: Any, spec: DatasetSpec, stages: Sequence[str], workdir: WorkDir) -> None:
    """Checks what stages refuse that come hours later, by their own checks."""
    students: set[str] = set()
    if {"evaluate", "continual", "fairness"} & {*stages}:
        students.update(student_archs(config.evaluate.students, config.teacher.arch))
    makes_labels = "relabel" in stages and "stored" in config.evaluate.labels
    if makes_labels:
        students.add(config.teacher.arch)
    for student in sorted(students):
        protocol.batch_size(config, student, spec)
    if "fairness" in stages:
        fairness.check(config)
    if "export" in stages:
        export.check(config, workdir, makes_labels)


def check_options(config: Any) -> None:
    """Checks the options that need nothing but one another; raises `InputError` as `check` does."""
    options.check(config)
    protocol.check(config.evaluate)
    Recipe.read(config.teacher.squeeze)


def check_images(config: Any, spec: DatasetSpec) -> None:
    """Checks that every class has the training images that `select` needs.

    Not of TensorFlow Datasets, whose labels take a pass over all images the first time; there
    `select` says it.

    Args:
      config: reads `ipc`, `data.{source,images_per_class}` and `select.factor`.
      spec: from `check`.

    Raises:
      InputError: naming the first class that is too small, or what is wrong with the source.
    """
    source = config.data.source
    if source.startswith("tfds:") or not (source or spec.name == "digits"):
        return
    with _about("data.source"):
        opened = open_source(spec, source, "train", _DIGITS_SIDE)
    if most := config.data.images_per_class:
        opened = evenly_spaced(opened, most)
    with _about("ipc"):
        check_class_sizes(opened, config.ipc, factor=config.select.factor)


@contextlib.contextmanager
def _about(path: str) -> Iterator[None]:
    """Puts the option's name before an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
