"""What a run will cost, from its config and the shapes of its networks: arithmetic alone.

A forward pass of a network counts 1; its input gradient costs another one, its parameters' gradient
a third. Convolutions and matrix products are counted; views, crops, Adam and decoding are not.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from delt_jax.data.specs import DatasetSpec
from delt_jax.data.split_sizes import SplitSizes
from delt_jax.export import fkd
from delt_jax.export.formats import FORMATS
from delt_jax.export.label_coding import PLAIN, LabelCoding
from delt_jax.export.stored_labels import VIEW_BYTES, stored_bytes
from delt_jax.models.students import student_archs
from delt_jax.stages.labelling import coding_of
from delt_jax.stages.planning import Plan
from delt_jax.stages.protocol import images_a_step

Split = Literal["first host", "devices", "hosts"]
"""What a task is dealt out over: one host's devices, all devices, or hosts with all of theirs."""

FORWARD, INPUT_GRADIENT, TRAINING = 1, 2, 3  # forward passes that a pass of each kind costs

# Bytes on disk that depend on what is in the images and in their names: assumed.
JPEG_BYTES_PER_PIXEL = 0.5  # at quality 75, of synthesised images, which are busier than photos
PNG_BYTES_PER_PIXEL = 3.0  # at most, as if nothing could be compressed
TABLE_ROW_BYTES = 64  # of ranking.csv and selection.csv
RECORD_BYTES = 500  # of an image in manifest.json, and the same in synthesis/batches
TAR_BYTES = 3_000  # of a sample in a WebDataset shard, beside the image: blocks and headers
KEPT_CHECKPOINTS = 2  # delt_jax/runtime/checkpoint.py
FLOAT32 = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Task:
    """Something that a stage computes.

    Attributes:
      stage: that computes it.
      what: in words, with its counts.
      flops: of all of it.
      split: see `Split`.
      pieces: equal parts that are dealt out and not split further.
      compute_dtype: of its activations on accelerators.
    """

    stage: str
    what: str
    flops: float
    split: Split
    pieces: int = 1
    compute_dtype: str = "float32"

    def seconds(self, flops_per_second: float, devices: int = 1, hosts: int = 1) -> float:
        """How long it takes where every device does `flops_per_second`."""
        dealt_to, beside = {
            "first host": (1, devices / hosts),
            "devices": (devices, 1),
            "hosts": (hosts, devices / hosts),
        }[self.split]
        turns = math.ceil(self.pieces / dealt_to)
        return turns * self.flops / self.pieces / (beside * flops_per_second)


def tasks(
    config: Any,
    spec: DatasetSpec,
    plan: Plan,
    sizes: SplitSizes | None,
    forward_flops: Callable[[str], float],
    stages: Sequence[str],
) -> list[Task]:
    """What a run computes, in the order of its stages.

    Args:
      config: reads `teacher`, `select`, `synthesis.compute_dtype`, `evaluate`, `continual` and
        `fairness`.
      spec: the data set.
      plan: of the synthesis.
      sizes: images of the splits, as they are used; None where that is not known, and then whatever
        depends on them is left out.
      forward_flops: FLOPs of a forward pass of one image, by architecture.
      stages: that are run.
    """
    arch = config.teacher.arch
    forward = forward_flops(arch)
    images = plan.schedule.ipc * plan.num_classes
    found = [] if sizes is None else _tasks_on_real_images(config, spec, sizes, forward)
    if plan.image_iterations:
        found.append(
            Task(
                "synthesize",
                f"{plan.image_iterations:,} image-iterations",
                plan.image_iterations * INPUT_GRADIENT * forward,
                "devices",
                len(plan.batches),
                config.synthesis.compute_dtype,
            )
        )
    found.append(Task("relabel", f"{arch} on {images:,} images", images * forward, "first host"))
    if "stored" in config.evaluate.labels:
        epochs, _ = _stored(config, plan.num_classes)
        found.append(
            Task(
                "relabel",
                f"{arch} on {images:,} images x {epochs} epochs, stored",
                images * epochs * forward,
                "first host",
            )
        )
    found += _student_tasks(config, images, sizes, forward_flops)
    if config.continual.steps:
        found += _continual_tasks(config, images, forward_flops)
    if sizes is not None and config.evaluate.real_images:
        compared = _cut(sizes.train, spec.num_classes, config.evaluate.real_images)
        found.append(
            Task(
                "evaluate",
                f"{arch} on {compared:,} real images, to compare with",
                compared * forward,
                "first host",
            )
        )
    found.append(_fairness_task(config, images, forward_flops))
    return [task for task in found if task.stage in stages]


def _tasks_on_real_images(
    config: Any, spec: DatasetSpec, sizes: SplitSizes, forward: float
) -> list[Task]:
    arch, squeeze, select = config.teacher.arch, config.teacher.squeeze, config.select
    found = []
    if not config.teacher.weights:
        found.append(
            Task(
                "squeeze",
                f"{arch} trained: {sizes.train:,} images x {squeeze.epochs} epochs",
                sizes.train * squeeze.epochs * TRAINING * forward,
                "first host",
                compute_dtype="float32" if squeeze.compute_dtype == "float32" else "bfloat16",
            )
        )
    found.append(
        Task(
            "squeeze",
            f"{arch} tested: {sizes.test:,} images",
            sizes.test * forward,
            "first host",
        )
    )
    if not select.ranking:
        looked_at = _cut(sizes.train, spec.num_classes, select.images_per_class)
        crops = looked_at * max(1, select.crops)
        found.append(
            Task(
                "select",
                f"{looked_at:,} images ranked"
                + (f", {select.crops} crops of each" * (crops > looked_at)),
                crops * forward,
                "devices",
                crops,
            )
        )
    return found


def _student_tasks(
    config: Any,
    images: int,
    sizes: SplitSizes | None,
    forward_flops: Callable[[str], float],
) -> list[Task]:
    options, teacher = config.evaluate, config.teacher.arch
    of_set = {"soft": len(options.sets), "hard": len(options.sets), "stored": 1}
    counts = {labels: of_set[labels] * len(options.seeds) for labels in options.labels}
    count = sum(counts.values())
    found = []
    tests = tested_epochs(options.epochs, options.eval_every)
    for name in student_archs(options.students, teacher):
        forward = forward_flops(name)
        passes = images * options.epochs
        labelling = counts.get("soft", 0) * FORWARD * forward_flops(teacher)
        found.append(
            Task(
                "evaluate",
                f"{count} x {name} trained: {images:,} images x {options.epochs} epochs",
                passes * (count * TRAINING * forward + labelling),
                "hosts",
                count,
            )
        )
        if sizes is not None:
            found.append(
                Task(
                    "evaluate",
                    f"{count} x {name} tested: {sizes.test:,} images x {tests} times",
                    count * sizes.test * tests * forward,
                    "hosts",
                    count,
                )
            )
    return found


def _continual_tasks(config: Any, images: int, forward_flops: Callable[[str], float]) -> list[Task]:
    """Training alone: each student is tested once, on the classes it has seen."""
    options, teacher, steps = config.evaluate, config.teacher.arch, config.continual.steps
    count = len(options.sets) * len(options.seeds) * steps
    passes = images * (steps + 1) / 2 * options.epochs  # of all steps: 1/steps, 2/steps ... 1 of it
    return [
        Task(
            "continual",
            f"{count} x {name} trained: up to {images:,} images x {options.epochs} epochs",
            count / steps * passes * (TRAINING * forward_flops(name) + forward_flops(teacher)),
            "hosts",
            count,
        )
        for name in student_archs(options.students, config.teacher.arch)
    ]


def _fairness_task(config: Any, images: int, forward_flops: Callable[[str], float]) -> Task:
    """Students without augmentation, of two sets, and of hard labels at each learning rate."""
    options, teacher = config.evaluate, config.teacher.arch
    student = next(iter(student_archs(options.students, teacher)), teacher)
    seeds, rates = len(options.seeds), len(config.fairness.learning_rates)
    labelled, count = 2 * seeds, (2 + rates) * seeds
    work = count * TRAINING * forward_flops(student) + labelled * FORWARD * forward_flops(teacher)
    return Task(
        "fairness",
        f"{count} x {student} trained: {images:,} images x {options.epochs} epochs",
        images * options.epochs * work,
        "hosts",
        count,
    )


def tested_epochs(epochs: int, every: int) -> int:
    """After how many epochs a student is tested: every so often from the first, and the last."""
    if not every:
        return 1
    regular = range(0, epochs, every)
    return len(regular) + (epochs - 1 not in regular)


def used_sizes(sizes: SplitSizes, num_classes: int, images_per_class: int) -> SplitSizes:
    """Images of the splits where each class is cut to `images_per_class` (0: it is not)."""
    return SplitSizes(*(_cut(size, num_classes, images_per_class) for size in sizes))


def _cut(images: int, num_classes: int, most_per_class: int) -> int:
    return min(images, num_classes * most_per_class) if most_per_class else images


def state_bytes(slots: int, image_size: int) -> int:
    """Bytes of images and both Adam moments, float32."""
    return 3 * FLOAT32 * slots * image_size**2 * 3


def synthesis_memory(
    slots: int, image_size: int, kept_per_image: float, weights: float, width: int = 1
) -> float:
    """Bytes that synthesis takes of a device, where the compiler recomputes and fuses nothing.

    Args:
      slots: of a class batch.
      image_size: S.
      kept_per_image: bytes of activations kept for the input gradient.
      weights: bytes of the teacher.
      width: class batches side by side.
    """
    # The state twice: while a prefix is optimised, the whole is still there.
    return weights + width * (2 * state_bytes(slots, image_size) + slots * kept_per_image)


def widest(memory_limit: float, one: float, two: float) -> int:
    """Class batches side by side that fit, where one takes `one` bytes and two take `two`."""
    return max(0, 1 + math.floor((memory_limit - one) / (two - one)))


@dataclasses.dataclass(frozen=True)
class Holding:
    """Something that takes memory or disk: what, bytes, and where the figure comes from."""

    what: str
    size: float
    why: str


def disk(
    config: Any,
    plan: Plan,
    image_size: int,
    sizes: SplitSizes | None,
    weights: float,
    devices: int = 1,
    width: int = 1,
) -> list[Holding]:
    """What a run writes to its work directory.

    Args:
      config: reads `ipc`, `distilled.format`, `evaluate`, `labels`, `select.ranking`,
        `teacher.weights` and `export`.
      plan: of the synthesis.
      image_size: S.
      sizes: images of the splits; None where that is not known.
      weights: bytes of the teacher.
      devices: that packs are split over.
      width: class batches side by side on each.
    """
    images = plan.schedule.ipc * plan.num_classes
    per_pixel, assumed = _file_bytes_per_pixel(config.distilled.format)
    slots = max(len(batch.slots) for batch in plan.batches) * devices * width
    found = [
        Holding(
            f"distilled/: {images:,} {config.distilled.format} files of {image_size} px",
            images * image_size**2 * per_pixel,
            f"{per_pixel:g} bytes a pixel, {assumed}",
        ),
        Holding(
            "manifest.json and synthesis/",
            2 * images * RECORD_BYTES,
            f"{RECORD_BYTES} bytes an image in each, assumed",
        ),
    ]
    if plan.image_iterations:
        found.append(
            Holding(
                f"checkpoints while synthesising: {slots:,} slots under way",
                KEPT_CHECKPOINTS * state_bytes(slots, image_size),
                f"{KEPT_CHECKPOINTS} kept, images and two moments in float32",
            )
        )
    if "stored" in config.evaluate.labels:
        epochs, coding = _stored(config, plan.num_classes)
        found.append(
            Holding(
                f"labels/: {images:,} images x {epochs} epochs",
                stored_bytes(epochs, images, plan.num_classes, coding),
                f"{coding.describe(plan.num_classes)} and {VIEW_BYTES} bytes of view each",
            )
        )
    found.append(Holding("teacher/", weights, "float32"))
    if not config.teacher.weights:
        found.append(
            Holding(
                "checkpoints while the teacher trains",
                KEPT_CHECKPOINTS * 2 * weights,
                f"{KEPT_CHECKPOINTS} kept, weights and momentum",
            )
        )
    if sizes is not None and not config.select.ranking:
        found.append(
            Holding(
                f"ranking.csv: {sizes.train:,} rows",
                sizes.train * TABLE_ROW_BYTES,
                f"{TABLE_ROW_BYTES} bytes a row, assumed",
            )
        )
    return found + [
        _exported(config, name, images, plan.num_classes, image_size)
        for name in config.export.formats
    ]


def _stored(config: Any, classes: int) -> tuple[int, LabelCoding]:
    """Epochs of stored labels, and how their logits are kept."""
    epochs = config.labels.epochs or config.evaluate.epochs
    return epochs, coding_of(config.labels, classes, config.evaluate.temperature)


def _file_bytes_per_pixel(encoding: str) -> tuple[float, str]:
    """Bytes of a pixel in an image file, and how sure they are."""
    if encoding == "jpg":
        return JPEG_BYTES_PER_PIXEL, "assumed"
    return PNG_BYTES_PER_PIXEL, "at most"


def _exported(config: Any, name: str, images: int, classes: int, image_size: int) -> Holding:
    """What an export holds, its manifest included."""
    has_labels = FORMATS[name].of_labels
    encoding = "" if has_labels else config.export.encoding  # beside labels images stay as they are
    per_pixel, why = _file_bytes_per_pixel(encoding or config.distilled.format)
    why = f"image files of {per_pixel:g} bytes a pixel, {why}"
    logits = FLOAT32 * classes if config.export.labels == "soft" else 0
    beside: float = 0  # bytes of an image's labels
    if name in ("tensors", "safetensors", "npz"):
        per_pixel, why = (12, "float32") if name == "tensors" else (3, "uint8")
        beside = 8 + logits
        if name == "npz":
            why += ", at most: compressed"
    elif name == "webdataset":
        beside = TAR_BYTES
        why += f", {TAR_BYTES:,} of tar a sample"
    elif has_labels:
        epochs, coding = _stored(config, classes)
        beside = stored_bytes(epochs, 1, classes, PLAIN if name == "fkd" else coding)
        why += ", and the labels"
        if name == "fkd":
            batch = images_a_step(config, config.teacher.arch, classes, image_size)
            beside += epochs * fkd.FILE_BYTES / batch
            why += f" in float16, {fkd.FILE_BYTES:,} bytes more a batch"
    size = images * (per_pixel * image_size**2 + beside + RECORD_BYTES)
    return Holding(f"export of {images:,} images: {name}", size, why)
