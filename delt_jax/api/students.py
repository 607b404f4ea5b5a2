"""Students of the API: trained on a few images, tested on real ones."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from delt_jax.api.data import Images
from delt_jax.api.distilled import Distilled
from delt_jax.api.scratch import scratch
from delt_jax.api.settings import make_config
from delt_jax.data.class_order import in_order_of
from delt_jax.errors import InputError
from delt_jax.models.network import Network, save_network
from delt_jax.runtime.progress import Advance, listening
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.evaluate import StudentRun, Summary, student_names, summarise
from delt_jax.stages.protocol import read_protocol
from delt_jax.stages.student_jobs import Job, StudentJobs, read_run
from delt_jax.stages.training_sets import TrainingSet

Set = Distilled | Images | tuple[np.ndarray, np.ndarray]
LABELS = ("soft", "hard")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What students got right of the test images; accuracies in percent. `print` shows a table.

    Attributes:
      students: every one of them: set, student, labels, seed, top1 (after the last epoch),
        best_top1, best_epoch, seconds.
      summaries: over the seeds: top1_mean, top1_std (None for one seed), ...
      records: all that is known of each student, as `evaluation/*.json` of a work directory has
        it: its curve, its accuracy per class, its protocol.
    """

    students: tuple[StudentRun, ...]
    summaries: tuple[Summary, ...]
    records: tuple[dict[str, Any], ...]

    @property
    def top1(self) -> float:
        """The mean over seeds, where one set, student and kind of labels was evaluated.

        Raises:
          InputError: where several were; see `summaries`.
        """
        if len(self.summaries) != 1:
            raise InputError(f"top1: {len(self.summaries)} results; expected one, see summaries")
        return self.summaries[0].top1_mean

    def __str__(self) -> str:
        lines = ["| set | student | labels | top-1 | best epoch | seeds |", "|" + " --- |" * 6]
        for one in self.summaries:
            means = (_spread(one.top1_mean, one.top1_std), _spread(one.best_mean, one.best_std))
            cells = (one.set, one.student, one.labels, *means, str(one.n))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return str(self)


def evaluate(
    sets: Set | Mapping[str, Set],
    test: Images,
    teacher: Network,
    *,
    students: str | Sequence[str] = "teacher",
    labels: str | Sequence[str] = "soft",
    on_progress: Callable[[Advance], object] | None = None,
    **options: Any,
) -> Evaluation:
    """Trains students on sets of images, by the published protocol, and tests them.

    >>> import delt_jax
    >>> train, test = delt_jax.load_data("digits", images_per_class=10)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> found = delt_jax.evaluate(
    ...     {"ten real ones": train}, test, teacher, epochs=2, seeds=(1, 2), randaugment_ops=0
    ... )
    >>> [(one.set, one.seed) for one in found.students]
    [('ten real ones', 1), ('ten real ones', 2)]

    Args:
      sets: distilled images, or any others: `Images`, or arrays (uint8 `[n, s, s, 3]`, int `[n]`);
        or several of them by name. Their classes are those of the test images with the same names,
        whatever their order; those of arrays without names, with the same numbers.
      test: images to test the students on.
      teacher: makes the soft labels.
      students: architectures by name; "teacher" is the teacher's.
      labels: "soft" (the teacher's, of every augmented batch), "hard" (the classes), or both.
      on_progress: called with a `delt_jax.Advance` in place of a progress bar.
      **options: see `delt_jax.options("evaluate")`: epochs (300), seeds (three), batch_size, ... As
        published, RandAugment is by the data set where its options are not given.

    Raises:
      InputError: for images of another size or other classes than the test images, or an option
        that is wrong.
    """
    magnitude, ops = test.spec.randaugment
    given = {"randaugment_magnitude": float(magnitude), "randaugment_ops": ops} | options
    students = (students,) if isinstance(students, str) else tuple(students)
    kinds = (labels,) if isinstance(labels, str) else tuple(labels)
    for kind in kinds:
        if kind not in LABELS:
            raise InputError(
                f"evaluate: labels {kind!r}; expected some of {', '.join(LABELS)} (the command "
                "line has stored ones)"
            )
    config = make_config("evaluate", given)
    archs = student_names(students, teacher)
    given_sets = sets if isinstance(sets, Mapping) else {_name(sets): sets}
    # Numbered, for a set may be called anything, and a file may not.
    names = {f"set{place}": name for place, name in enumerate(given_sets)}
    opened = {key: _opened(name, given_sets[name], test) for key, name in names.items()}
    jobs = []
    for arch, kind, (key, chosen) in itertools.product(archs, kinds, opened.items()):
        config.ipc = max(1, len(chosen.labels) // len(test.class_names))
        protocol = read_protocol(config, arch, test.spec, teacher, kind)
        ending = "" if kind == "soft" else kind
        jobs += [Job(arch, protocol, key, seed, ending) for seed in config.evaluate.seeds]
    if not jobs:
        raise InputError("evaluate: no sets, labels or seeds; expected at least one of each")
    with scratch() as workdir, listening(on_progress):
        save_network(teacher, workdir.teacher)
        work = StudentJobs(
            "evaluate",
            workdir.evaluation,
            workdir,
            sets={key: (lambda seed, chosen=chosen: chosen) for key, chosen in opened.items()},
            test=CroppedImages(test.source, test.image_size),
            teacher=teacher,
            data=test.name,
            at_once=config.evaluate.seeds_at_once,
        )
        records = [record | {"set": names[record["set"]]} for record in work.run(jobs)]
    runs = tuple(read_run(StudentRun, record) for record in records)
    return Evaluation(runs, summarise(runs), tuple(records))


def _name(one: Any) -> str:
    return "distilled" if isinstance(one, Distilled) else "images"


def _opened(name: str, one: Any, test: Images) -> TrainingSet:
    """A set as arrays, checked against the test images."""
    class_names = test.class_names
    if isinstance(one, Distilled | Images):
        images, labels = one.images, one.labels
        if test.is_named and (isinstance(one, Distilled) or one.is_named):
            class_names = one.class_names
    elif isinstance(one, tuple) and len(one) == 2:
        ours = Images(*one, class_names=test.class_names, image_size=test.image_size)
        images, labels = np.asarray(one[0]), ours.labels
    else:
        raise InputError(
            f"set {name!r}: {type(one).__name__}; expected Distilled, Images or (images, labels)"
        )
    size, classes = test.image_size, len(test.class_names)
    if images.shape[1:] != (size, size, 3):
        raise InputError(
            f"set {name!r}: images of shape {images.shape[1:]}; expected {(size, size, 3)} as the "
            "test images"
        )
    if labels.max() < len(class_names):
        labels = in_order_of(labels, class_names, test.class_names, f"set {name!r}")
    if labels.max() >= classes:
        raise InputError(
            f"set {name!r}: label {labels.max()}; expected 0 to {classes - 1} as the test images"
        )
    return TrainingSet(images, labels)


def _spread(mean: float, std: float | None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"
