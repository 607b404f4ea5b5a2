"""Labels that are made before a student trains: what decides them, and how they are made."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from delt_jax import target
from delt_jax.core import data_parallel, programs
from delt_jax.core.augment.stored_views import StoredLabels, StoredViews, cut_out, draw_epoch
from delt_jax.core.augment.views import Statistics, StudentViews
from delt_jax.core.torch_order import sampler_orders
from delt_jax.data.specs import DatasetSpec
from delt_jax.errors import InputError
from delt_jax.export.label_coding import LabelCoding
from delt_jax.export.stored_labels import SCHEMA, LabelFiles
from delt_jax.models.network import Network
from delt_jax.runtime import hosts
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.progress import Progress
from delt_jax.runtime.streams import stream
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import device_pool
from delt_jax.stages import options as table
from delt_jax.stages.cropped_images import CPU_TEST_BATCH_SIZE, TEST_BATCH_SIZE
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.protocol import Protocol, read_protocol


def coding_of(options: Any, classes: int, temperature: float) -> LabelCoding:
    """How `config.labels` has the logits of so many classes kept."""
    top_k = options.top_k if options.top_k < classes else 0
    return LabelCoding(top_k, options.dtype, temperature if top_k else 1.0)


def plan_labels(
    config: Any,
    workdir: WorkDir,
    spec: DatasetSpec,
    teacher: Network,
    images: UInt8[np.ndarray, "n s s 3"],
) -> tuple[LabelFiles, Protocol]:
    """The files of the stored labels that a config asks for, there or not.

    Args:
      config: reads `seed`, `ipc`, `evaluate` and `labels`.
      workdir: reads the teacher's card.
      spec: the data set.
      teacher: the labeller; batches are those of a student of its architecture.
      images: the distilled ones.

    Returns:
      The files, and the protocol whose batches and views they hold.

    Raises:
      InputError: where an option is out of range.
    """
    protocol = read_protocol(config, teacher.arch, spec, teacher, "stored")
    options = config.labels
    table.check(options, "labels")
    coding = coding_of(options, teacher.num_classes, protocol.temperature)
    decisive = {
        "schema": SCHEMA,
        "seed": config.seed,
        "order_seed": options.order_seed,
        "coding": dataclasses.asdict(coding),
        "batch_size": protocol.batch_size,
        "views": protocol.views and dataclasses.asdict(protocol.views),
        "compute_dtype": protocol.compute_dtype,
        "teacher": workdir.read_json(workdir.teacher / "card.json")["sha256"],
        "statistics": [list(map(float, part)) for part in (teacher.mean, teacher.std)],
    }
    identity = fingerprint(decisive, images)
    epochs = options.epochs or protocol.epochs
    return LabelFiles(workdir.labels, epochs, identity, coding), protocol


def describe_labels(
    config: Any,
    files: LabelFiles,
    protocol: Protocol,
    teacher: Network,
    images: UInt8[np.ndarray, "n s s 3"],
) -> dict[str, Any]:
    """What labels.json says of written files, for readers that know nothing else of the run.

    Args:
      config: reads `labels`.
      files: with
      protocol: from `plan_labels`.
      teacher: the labeller; `mean` and `std` are those of its inputs.
      images: the distilled ones, n of s x s pixels; `images_sha256` is of their bytes in this order
        (by class, then rank).
    """
    return {
        "epochs": files.epochs,
        "images": len(images),
        "size": images.shape[1],
        "classes": teacher.num_classes,
        "batch_size": protocol.batch_size,
        "order_seed": config.labels.order_seed,
        "views": protocol.views and dataclasses.asdict(protocol.views),
        "top_k": files.coding.top_k,
        "dtype": files.coding.dtype,
        "mean": list(map(float, teacher.mean)),
        "std": list(map(float, teacher.std)),
        "images_sha256": hashlib.sha256(images.reshape(-1).data).hexdigest(),
        "bytes": files.bytes(),
        "fingerprint": files.fingerprint,
    }


def make_labels(
    files: LabelFiles,
    protocol: Protocol,
    seed: int,
    order_seed: int,
    teacher: Network,
    images: UInt8[np.ndarray, "n s s 3"],
) -> None:
    """Writes the epochs that are not there; the devices of this process share every batch.

    Args:
      files: to write; with
      protocol: from `plan_labels`.
      seed: of the run: views and mixes are the same for all students.
      order_seed: of the orders in which the epochs show the images; see `sampler_orders`.
      teacher: the labeller.
      images: the distilled ones.

    Raises:
      InputError: where a logit is not finite in float16.
    """
    mesh = device_mesh(data_parallel.IMAGES)
    program = programs.labelling_program(
        teacher.module.apply,
        compute_dtype=programs.compute_dtype(protocol.compute_dtype),
        mesh=mesh,
    )
    labeller = data_parallel.replicate(
        programs.Labeller(teacher.variables, Statistics.of(teacher.mean, teacher.std)), mesh
    )
    pool = None
    if device_pool.lies_on_device(images.nbytes):
        pool = data_parallel.replicate(jnp.asarray(images), mesh)
    draw = _drawing(len(images), images.shape[1], protocol.batch_size, protocol.views)
    batch_size = CPU_TEST_BATCH_SIZE if target.platform() == "cpu" else TEST_BATCH_SIZE
    batch_size = min(batch_size, len(images))

    def logits_of(views: StoredViews) -> np.ndarray:
        found = []
        for place in range(0, len(images), batch_size):
            # The last batch is filled up, so that it does not cost a second compilation.
            chosen = np.minimum(np.arange(place, place + batch_size), len(images) - 1)
            if pool is None:
                rows, part = cut_out(views, chosen)
                chosen = np.arange(batch_size)
                found.append(program(images[rows], part, chosen, labeller))
            else:
                found.append(program(pool, views, chosen, labeller))
        return np.concatenate([np.asarray(part) for part in found])[: len(images)]

    missing = [epoch for epoch in range(files.epochs) if not files.holds(epoch)]
    with Progress(files.epochs, "relabel", "epochs", files.epochs - len(missing)) as bar:
        orders = itertools.islice(sampler_orders(order_seed, len(images)), files.epochs)
        for epoch, order in enumerate(orders):
            if epoch not in missing:
                continue
            order, views = jax.device_get(draw(stream(seed, "labels", epoch), order=order))
            logits = logits_of(views)
            if not np.isfinite(logits).all():
                raise InputError(
                    f"teacher {teacher.arch}: a logit of a distilled image is not finite in "
                    "float16; expected a teacher of finite weights, whose statistics are its own"
                )
            files.write(epoch, order, StoredLabels(views, logits))  # type: ignore[arg-type]
            bar.advance()


@functools.lru_cache(maxsize=64)
def _drawing(
    count: int, size: int, batch_size: int, views: StudentViews | None
) -> Callable[..., tuple[Array, StoredViews]]:
    """The jitted `draw_epoch` of a set."""
    drawing = functools.partial(
        draw_epoch, count=count, size=size, batch_size=batch_size, views=views
    )
    return jax.jit(drawing)


def check_labels(files: LabelFiles) -> None:
    """Raises `InputError` where an epoch's labels are missing, damaged or of other inputs."""

    def missing() -> list[int]:
        return [epoch for epoch in range(files.epochs) if not files.holds(epoch)]

    if hosts.current().is_first:
        for epoch in missing():
            files.read(epoch)  # says what is wrong with it
    else:  # which may not see yet what the first host wrote a moment ago
        hosts.seen(missing, lambda found: not found, f"{files.folder}, {files.epochs} epochs")
