"""squeeze: a teacher, from weights that are there or trained here, measured on the test split."""

import dataclasses
import logging
import math
import pathlib
import shutil
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from delt_jax.core import training
from delt_jax.core.augment.views import Statistics
from delt_jax.data.sources import describe, open_source
from delt_jax.data.specs import statistics
from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.models.network import Network, save_network
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import CroppedImages, measure_accuracy
from delt_jax.stages.fingerprint import fingerprint

SAVE_SECONDS = 60.0  # between two checkpoints


@dataclasses.dataclass(frozen=True, eq=False)
class SqueezeResult:
    """The teacher, its accuracy per class on the test split in percent, and the seconds it took."""

    teacher: Network
    per_class: np.ndarray
    seconds: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a teacher is trained; the fields are those of `config.teacher.squeeze`."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    warmup_epochs: float
    pad: int
    flip: bool


def run(config: Any, workdir: WorkDir) -> SqueezeResult:
    """Imports `config.teacher.weights`, or trains `config.teacher.arch` where there are none.

    Args:
      config: an `ml_collections.ConfigDict`; reads `seed`, `data.{name,source,image_size}` and
        `teacher.{arch,weights,statistics,squeeze.*}`.
      workdir: writes the teacher and metrics; checkpoints lie beside the teacher while it trains.

    Raises:
      InputError: before anything is computed, where the data, the weights or an option is wrong;
        later, where training diverges.
    """
    data, options = config.data, config.teacher
    spec = describe(data.name, data.source or "", data.image_size or None)
    size = spec.image_size
    test = CroppedImages(open_source(spec, data.source or "", "test", size), size)
    if len(test) == 0:
        raise InputError(f"data set {spec.name!r}: no test images; expected at least one")
    mean, std = statistics(options.statistics, spec)
    if options.arch not in registry.TEACHER_NAMES and options.arch in registry.NAMES:
        raise InputError(
            f"teacher.arch {options.arch!r}: has no BatchNorm; expected one of "
            f"{', '.join(registry.TEACHER_NAMES)}"
        )
    module = registry.create(options.arch, len(test.class_names), size)
    moments = Statistics.of(mean, std)
    start = time.monotonic()
    if options.weights:
        variables = torch_weights.from_state_dict(
            module,
            size,
            torch_weights.read_state_dict(pathlib.Path(options.weights).expanduser()),
            source=str(options.weights),
        )
        recipe = {"weights": pathlib.Path(options.weights).name}
    else:
        train = CroppedImages(open_source(spec, data.source or "", "train", size), size)
        chosen = _read_recipe(options.squeeze, len(train))
        variables, before = train_teacher(
            options.arch, size, train, moments, chosen, config.seed, workdir
        )
        recipe = {"data": spec.name, "seed": config.seed, **dataclasses.asdict(chosen)}
        start -= before  # the seconds of interrupted runs count too

    logits_of = training.inference_program(module.apply)
    with Progress(len(test), "testing the teacher", unit="images") as bar:
        accuracy = measure_accuracy(
            lambda images: logits_of(variables, images, moments), test, advance=bar.advance
        )
    seconds = time.monotonic() - start
    if accuracy.top1 < 200 / len(test.class_names):
        logging.warning(
            "teacher %s scores %.1f %% on %d classes: are teacher.statistics %r and the order of "
            "its classes right?",
            *(options.arch, accuracy.top1, len(test.class_names), options.statistics),
        )
    teacher = Network(
        arch=options.arch,
        num_classes=len(test.class_names),
        image_size=size,
        variables=variables,
        mean=mean,
        std=std,
        class_names=tuple(test.class_names),
        top1=accuracy.top1,
        recipe={**recipe, "seconds": round(seconds, 1), "test_images": len(test)},
    )
    save_network(teacher, workdir.teacher)
    for directory in workdir.teacher.glob(".training-*"):
        shutil.rmtree(directory, ignore_errors=True)
    MetricsLog(workdir.metrics_jsonl).write(
        "squeeze", arch=teacher.arch, top1=accuracy.top1, seconds=round(seconds, 3)
    )
    return SqueezeResult(teacher, accuracy.per_class, seconds)


def _read_recipe(options: Any, images: int) -> Recipe:
    recipe = Recipe(**{field.name: options[field.name] for field in dataclasses.fields(Recipe)})
    for name, least in (("epochs", 1), ("batch_size", 1), ("pad", 0), ("warmup_epochs", 0)):
        value = getattr(recipe, name)
        if value < least:
            raise InputError(f"teacher.squeeze.{name} {value}: expected at least {least}")
    if images == 0:
        raise InputError("teacher: no training images; expected at least one")
    return dataclasses.replace(recipe, batch_size=min(recipe.batch_size, images))


def train_teacher(
    arch: str,
    image_size: int,
    images: CroppedImages,
    moments: Statistics,
    recipe: Recipe,
    seed: int,
    workdir: WorkDir,
) -> tuple[dict, float]:
    """Trains a teacher; goes on from the last checkpoint of the same recipe.

    Every epoch is a new permutation; its ragged last batch is left out.

    Args:
      arch: architecture.
      image_size: side of the images in pixels.
      images: the training set.
      moments: of the normalisation.
      recipe: how to train.
      seed: of initial weights, order and views.
      workdir: for checkpoints and metrics.

    Returns:
      The variables, and the seconds that earlier, interrupted runs had spent.

    Raises:
      InputError: where the loss is no longer finite.
    """
    module = registry.create(arch, len(images.class_names), image_size)
    optimizer = training.nesterov(recipe.weight_decay, recipe.momentum)
    program = training.teacher_program(
        module.apply,
        optimizer,
        padding=recipe.pad,
        flip_probability=0.5 if recipe.flip else 0.0,
        label_smoothing=recipe.label_smoothing,
    )
    template = jnp.zeros((1, image_size, image_size, 3))
    variables = jax.jit(module.init)(stream(seed, "squeeze", "init"), template)
    state = training.create_state(optimizer, variables)
    del variables  # the state's buffers are donated from now on
    key = stream(seed, "squeeze", "views")
    steps_per_epoch = len(images) // recipe.batch_size
    steps = recipe.epochs * steps_per_epoch
    warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
    log = MetricsLog(workdir.metrics_jsonl)
    identity = fingerprint(
        {"arch": arch, "recipe": dataclasses.asdict(recipe), "seed": seed, "images": len(images)},
        images.labels,
        *moments,
    )

    with Checkpointer(workdir.teacher / f".training-{identity[:12]}") as checkpoints:
        done, seconds_before = 0, 0.0
        restored = checkpoints.restore_latest({"state": state, "seconds": np.zeros(())})
        if restored is not None:
            done, tree = restored
            # Copies, because the state is donated and the checkpoint's memory is not ours.
            state = jax.tree.map(jnp.array, tree["state"])
            seconds_before = float(tree["seconds"])
        start = last_save = time.monotonic()
        with Progress(steps, f"training {arch}", unit="steps", done=done) as bar:
            while done < steps:
                epoch, position = divmod(done, steps_per_epoch)
                order = jax.random.permutation(stream(seed, "squeeze", "order", epoch), len(images))
                rest = np.asarray(order)[position * recipe.batch_size :]
                losses = []
                for batch in images.batches(rest, recipe.batch_size):
                    if len(batch.labels) < recipe.batch_size:
                        break
                    rate = training.warmup_cosine(recipe.learning_rate, done, steps, warmup_steps)
                    key_step = jax.random.fold_in(key, done)
                    state, loss = program(
                        state, batch.images, batch.labels, key_step, rate, moments
                    )
                    losses.append(loss)
                    done += 1
                    bar.advance()
                    if time.monotonic() - last_save >= SAVE_SECONDS:
                        spent = seconds_before + time.monotonic() - start
                        checkpoints.save(done, {"state": state, "seconds": np.asarray(spent)})
                        last_save = time.monotonic()
                loss = float(jnp.mean(jnp.stack(losses)))
                if not math.isfinite(loss):
                    raise InputError(
                        f"teacher {arch}: the loss became {loss} in epoch {epoch + 1} of "
                        f"{recipe.epochs}; expected a smaller teacher.squeeze.learning_rate than "
                        f"{recipe.learning_rate}"
                    )
                log.write("squeeze", epoch=epoch + 1, loss=loss, learning_rate=rate)
        return state.variables, seconds_before
