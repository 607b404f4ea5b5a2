"""squeeze: a teacher, from weights that are there or trained here, measured on the test split."""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from delt_jax.core import data_parallel, programs
from delt_jax.core.augment.views import Statistics
from delt_jax.data.class_order import check_order
from delt_jax.data.specs import Channels, DatasetSpec, check_class_order, statistics
from delt_jax.errors import InputError
from delt_jax.models import pretrained, registry, torch_weights, weight_files
from delt_jax.models.network import CARD, Network, load_network, save_network
from delt_jax.runtime import save_points
from delt_jax.runtime.download import sha256
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import teacher_classes
from delt_jax.stages.cropped_images import Accuracy, CroppedImages, measure_accuracy
from delt_jax.stages.opening import describe, open_split
from delt_jax.stages.teacher_training import Recipe, train_teacher


@dataclasses.dataclass(frozen=True, eq=False)
class SqueezeResult:
    """The teacher, its accuracy per class on the test split in percent, and the seconds it took."""

    teacher: Network
    per_class: np.ndarray
    seconds: float


def run(config: Any, workdir: WorkDir) -> SqueezeResult:
    """Imports `config.teacher.weights`, or trains `config.teacher.arch` where there are none.

    Args:
      config: an `ml_collections.ConfigDict`; reads `seed`, `data` and
        `teacher.{arch,weights,weights_key,classes,statistics,squeeze.*}`.
      workdir: writes the teacher, metrics and the names of images that cannot be read; checkpoints
        lie beside the teacher, for the caller to remove once it is taken down as done.

    Raises:
      InputError: before anything is computed, where the data, the weights or an option is wrong;
        later, where training diverges.
    """
    data, options = config.data, config.teacher
    spec = describe(config)
    size = spec.image_size
    reading = {"strict": bool(data.strict), "workers": data.workers}
    test_source = open_split(config, spec, "test")
    if len(test_source) == 0:
        raise InputError(f"data set {spec.name!r}: no test images; expected at least one")
    test = CroppedImages(test_source, size, **reading)
    registry.check_teacher(options.arch)
    registry.create(options.arch, len(test.class_names), size)  # the name and the side are checked
    recipe = Recipe.read(options.squeeze)
    start = time.monotonic()
    if options.weights:
        teacher = import_teacher(options, spec, tuple(test.class_names))
    else:
        train = open_split(config, spec, "train", recipe.side(size))
        train = CroppedImages(train, recipe.side(size), **reading)
        check_order(test.class_names, train.class_names, "the test images", "the training images")
        teacher, before = train_from_scratch(
            options, spec, train, config.seed, workdir, config.checkpoint_minutes
        )
        train.record_unreadable(workdir, "squeeze, training images")
        start -= before  # the seconds of interrupted runs count too
    accuracy = measure_teacher(teacher, test)
    test.record_unreadable(workdir, "squeeze, test images")
    seconds = time.monotonic() - start
    if options.weights and accuracy.top1 < 200 / len(test.class_names):
        logging.warning(
            "teacher %s scores %.1f %% on %d classes: are teacher.statistics %r and the order of "
            "its classes right?",
            *(options.arch, accuracy.top1, len(test.class_names), options.statistics),
        )
    measured = {"seconds": round(seconds, 1), "test_images": test.readable}
    teacher = dataclasses.replace(
        teacher, top1=accuracy.top1, recipe={**teacher.recipe, **measured}
    )
    save_network(teacher, workdir.teacher)
    MetricsLog(workdir.metrics_jsonl).write(
        "squeeze", arch=teacher.arch, top1=accuracy.top1, seconds=round(seconds, 3)
    )
    return SqueezeResult(teacher, accuracy.per_class, seconds)


def train_from_scratch(
    options: Any,
    spec: DatasetSpec,
    train: CroppedImages,
    seed: int,
    workdir: WorkDir,
    save_minutes: float = save_points.MINUTES,
) -> tuple[Network, float]:
    """A teacher trained here, not tested yet.

    Args:
      options: `config.teacher`; reads `arch`, `squeeze` and `statistics` ("auto": the data set's).
      spec: the data set; reads its name, image size and statistics.
      train: its training images, of side `Recipe.side`.
      seed: of initial weights, order and views.
      workdir: for checkpoints and metrics.
      save_minutes: between two checkpoints.

    Returns:
      The teacher, and the seconds that earlier, interrupted runs had spent on it.

    Raises:
      InputError: where an option is wrong, or training diverges.
    """
    recipe, size = Recipe.read(options.squeeze), spec.image_size
    mean, std = statistics("dataset" if options.statistics == "auto" else options.statistics, spec)
    variables, before = train_teacher(
        options.arch, size, train, Statistics.of(mean, std), recipe, seed, workdir, save_minutes
    )
    made = {"data": spec.name, "train_images": train.readable, "seed": seed}
    teacher = Network(
        arch=options.arch,
        num_classes=len(train.class_names),
        image_size=size,
        variables=variables,
        mean=mean,
        std=std,
        class_names=tuple(train.class_names),
        recipe={**made, **dataclasses.asdict(recipe)},
    )
    return teacher, before


def measure_teacher(teacher: Network, test: CroppedImages) -> Accuracy:
    """What a teacher gets right of a test set.

    Raises:
      InputError: where the classes have another order, no image can be read, or the teacher's
        logits are not finite.
    """
    check_order(teacher.class_names, test.class_names, "the teacher", "the test images")
    mesh = device_mesh(data_parallel.IMAGES)
    variables = data_parallel.replicate(teacher.variables, mesh)
    logits_of = programs.inference_program(teacher.module.apply, mesh)
    moments = Statistics.of(teacher.mean, teacher.std)
    finite = []

    def tested(images: Any) -> Any:
        logits = logits_of(variables, images, moments)
        finite.append(jnp.isfinite(logits).all())
        return logits

    with Progress(len(test), "testing the teacher", unit="images") as bar:
        accuracy = measure_accuracy(tested, test, advance=bar.advance)
    if not all(finite):
        raise InputError(
            f"teacher {teacher.arch}: its logits of test images are not finite; check its weights "
            "and teacher.statistics"
        )
    return accuracy


def import_teacher(options: Any, spec: DatasetSpec, class_names: tuple[str, ...]) -> Network:
    """The teacher of `config.teacher.weights`: a folder with a card, or a state_dict; not tested.

    Input statistics are those that `teacher.statistics` names; "auto" is the card's, the
    publisher's, or else the data set's.
    """
    weights = options.weights
    folder = pathlib.Path(weights).expanduser()
    if not pretrained.is_published(weights) and folder.is_dir():
        cards = [path for path in (folder, folder / "teacher") if (path / CARD).is_file()]
        if cards:
            return _adopt(cards[0], options, spec, class_names)
        weights = str(weight_files.in_folder(folder))
    if pretrained.is_published(weights) and not options.classes:
        check_class_order(spec, class_names, f"{spec.name} for weights {weights!r}")
    file = pretrained.find(weights, options.arch)
    module = registry.create(options.arch, len(class_names), spec.image_size)
    state_dict = torch_weights.read_state_dict(
        file.path, options.weights_key, torch_weights.coverage_of(module, spec.image_size)
    )
    variables, rows = _take_rows(options, spec, class_names, state_dict, file.origin)
    mean, std = _imported_statistics(options, spec, file.statistics)
    recipe: dict[str, Any] = {"weights": file.origin, "sha256": sha256(file.path)}
    if options.weights_key:
        recipe["weights_key"] = options.weights_key
    return Network(
        arch=options.arch,
        num_classes=len(class_names),
        image_size=spec.image_size,
        variables=variables,
        mean=mean,
        std=std,
        class_names=class_names,
        recipe=recipe | rows,
    )


def _take_rows(
    options: Any,
    spec: DatasetSpec,
    class_names: tuple[str, ...],
    state_dict: Mapping[str, np.ndarray],
    source: str,
) -> tuple[dict, dict[str, Any]]:
    """Variables for the data set's classes, of a classifier that `teacher.classes` may cut.

    Returns:
      The variables, and what the card says of the rows that were taken.
    """
    size = spec.image_size
    module = registry.create(options.arch, len(class_names), size)
    rows = None
    if options.classes and (outputs := torch_weights.count_classes(module, size, state_dict)):
        rows = teacher_classes.choose_rows(options.classes, class_names, outputs)
        logging.info("%s: rows %s of its %d classes are taken", source, rows, outputs)
    try:
        variables = torch_weights.from_state_dict(module, size, state_dict, source, rows)
    except torch_weights.OtherClassesError as error:
        advice = teacher_classes.advice(class_names, error.found)
        raise InputError(f"{error}; {advice}") from error
    return variables, {} if rows is None else {"rows": list(rows)}


def _adopt(
    folder: pathlib.Path, options: Any, spec: DatasetSpec, class_names: tuple[str, ...]
) -> Network:
    """A teacher that this stage made in another run."""
    teacher = load_network(folder)
    if options.weights_key:
        raise InputError(
            f"{folder / CARD}: weights_key {options.weights_key!r}, expected none: a network that "
            "was saved here has one set of weights"
        )
    for what, found, expected in (
        ("arch", teacher.arch, options.arch),
        ("image_size", teacher.image_size, spec.image_size),
    ):
        if found != expected:
            raise InputError(f"{folder / CARD}: {what} {found}, expected {expected}")
    if teacher.class_names != class_names:
        teacher = _cut(teacher, folder, options, spec, class_names)
    mean, std = _imported_statistics(options, spec, (teacher.mean, teacher.std))
    return dataclasses.replace(teacher, mean=mean, std=std)


def _cut(
    teacher: Network,
    folder: pathlib.Path,
    options: Any,
    spec: DatasetSpec,
    class_names: tuple[str, ...],
) -> Network:
    """A teacher of other classes, cut down to those of the data set as `teacher.classes` says."""
    found = teacher.class_names
    if not options.classes:
        hint = ""
        if set(class_names) <= set(found):
            rows = ",".join(str(found.index(name)) for name in class_names)
            hint = f"; teacher.classes={rows} takes them from it"
        raise InputError(f"{folder / CARD}: class_names {found}, expected {class_names}{hint}")
    state_dict = torch_weights.to_state_dict(teacher.variables)
    variables, rows = _take_rows(options, spec, class_names, state_dict, str(folder / CARD))
    return dataclasses.replace(
        teacher,
        num_classes=len(class_names),
        variables=variables,
        class_names=class_names,
        top1=None,
        recipe=teacher.recipe | rows,
    )


def _imported_statistics(
    options: Any, spec: DatasetSpec, known: Sequence[Sequence[float]] | None
) -> tuple[Channels, Channels]:
    if options.statistics == "auto":
        return statistics(known or "dataset", spec)
    return statistics(options.statistics, spec)
