"""Everything about a config that can be wrong, found before hours are spent on the rest."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from delt_jax.core.ranking import MODES
from delt_jax.core.schedule import LAYOUTS
from delt_jax.data.specs import DatasetSpec, statistics
from delt_jax.errors import InputError, listed
from delt_jax.export.image_folder import FORMATS, NAMINGS, ROUNDINGS
from delt_jax.models import pretrained, registry
from delt_jax.stages import continual, export, fairness, labelling, protocol, select
from delt_jax.stages.opening import describe
from delt_jax.stages.planning import Plan, make_plan
from delt_jax.stages.teacher_training import Recipe
from delt_jax.stages.training_sets import SETS

STATISTICS = ("teacher", "dataset", "imagenet")
COMPUTE_DTYPES = ("float32", "bfloat16")
# Option, smallest and largest value.
RANGES: tuple[tuple[str, float, float], ...] = (
    ("ipc", 1, float("inf")),
    ("data.workers", -1, float("inf")),
    ("synthesis.learning_rate", 0, float("inf")),
    ("synthesis.bn_weight", 0, float("inf")),
    ("synthesis.first_bn_multiplier", 0, float("inf")),
    ("synthesis.jitter", 0, float("inf")),
    ("synthesis.flip", 0, 1),
    ("synthesis.class_batches_per_device", 0, float("inf")),
    ("synthesis.steps_per_call", 0, float("inf")),
    ("synthesis.log_every", 1, float("inf")),
    ("synthesis.checkpoint_minutes", 0, float("inf")),
    ("distilled.quality", 1, 95),
    ("select.batch_size", 1, float("inf")),
    ("select.images_per_class", 0, float("inf")),
    ("data.images_per_class", 0, float("inf")),
    ("evaluate.real_images", 0, float("inf")),
    ("evaluate.seeds_at_once", 0, float("inf")),
    ("report.classes", 1, float("inf")),
    ("continual.steps", 0, float("inf")),
)
# Option and its words.
WORDS: tuple[tuple[str, Sequence[str]], ...] = (
    ("select.mode", MODES),
    ("select.statistics", STATISTICS),
    ("synthesis.statistics", STATISTICS),
    ("synthesis.compute_dtype", COMPUTE_DTYPES),
    ("synthesis.initial", ("real", "noise")),
    ("synthesis.layout", LAYOUTS),
    ("evaluate.statistics", STATISTICS),
    ("distilled.format", FORMATS),
    ("distilled.rounding", ROUNDINGS),
    ("distilled.naming", NAMINGS),
)


def check(config: Any) -> tuple[DatasetSpec, Plan]:
    """Checks a whole config against itself, the names that there are and the files it names.

    Returns:
      The data set's spec and the plan of its synthesis.

    Raises:
      InputError: for the first option that is wrong, with its value and what is expected.
    """
    check_options(config)
    ranking = config.select.ranking
    if ranking and not pathlib.Path(ranking).expanduser().is_file():
        raise InputError(f"select.ranking: got {ranking!r}, which is no file")
    fairness.check(config)
    export.read_options(config)
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
            with _about(path):
                registry.create(name, spec.num_classes, spec.image_size)
    if config.teacher.weights:
        with _about("teacher"):
            pretrained.check(config.teacher.weights, config.teacher.arch)
    with _about("teacher"):
        if config.teacher.statistics != "auto":
            statistics(config.teacher.statistics, spec)
    Recipe.read(config.teacher.squeeze)
    return spec, make_plan(config, spec.num_classes)


def check_options(config: Any) -> None:
    """Checks the options that need nothing but themselves; raises `InputError` as `check` does."""
    for path, least, most in RANGES:
        value = _at(config, path)
        if not least <= value <= most:
            limits = f"{least} to {most}" if most < float("inf") else f"at least {least}"
            raise InputError(f"{path}: got {value}, expected {limits}")
    for path, words in WORDS:
        _one_of(path, _at(config, path), words)
    for name in config.evaluate.sets:
        _one_of("evaluate.sets", name, SETS)
    protocol.check(config.evaluate)
    labelling.check(config.labels)


@contextlib.contextmanager
def _about(path: str) -> Iterator[None]:
    """Puts the option's name before an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def _one_of(path: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise InputError(f"{path}: got {value!r}, expected one of {listed(words, value)}")
