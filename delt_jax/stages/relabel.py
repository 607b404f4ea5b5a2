"""relabel: how the students get their labels.

While a student of soft labels trains, the teacher labels every mixed batch anew: the published way,
which stores nothing. For students of stored labels it labels the mixed views of every epoch here,
once. The stage records that, and what the teacher makes of the distilled images as they are.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.core import data_parallel, programs
from delt_jax.core.augment.views import Statistics
from delt_jax.models.network import Network, load_network
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.distilled_images import distilled_images
from delt_jax.stages.fingerprint import fingerprint
from delt_jax.stages.labelling import describe_labels, make_labels, plan_labels
from delt_jax.stages.opening import describe


@dataclasses.dataclass(frozen=True)
class RelabelResult:
    """What the teacher makes of the distilled images, seen whole and unmixed.

    Attributes:
      images: how many there are.
      teacher_top1: percent of them that the teacher takes for their class.
      mean_true_class_probability: the teacher's, at temperature 1, in [0, 1].
    """

    images: int
    teacher_top1: float
    mean_true_class_probability: float


def run(config: Any, workdir: WorkDir) -> RelabelResult:
    """Writes labels/labels.json, and the stored labels where `evaluate.labels` names them.

    Args:
      config: an `ml_collections.ConfigDict`; reads `evaluate.{labels,temperature,augment,cutmix,
        mixup}`; for stored labels `seed`, `ipc`, `data`, `labels` and all of
        `evaluate`.
      workdir: reads the teacher and the distilled images; what is there and made from the same
        inputs is kept.

    Raises:
      InputError: where one of them is missing or damaged, or an option is wrong.
    """
    teacher = load_network(workdir.teacher)
    images, labels = distilled_images(workdir)
    path = workdir.labels / "labels.json"
    mixes = [name for name in ("cutmix", "mixup") if config.evaluate[name]]
    mix = mixes[0] if config.evaluate.augment and mixes else "none"
    header = {
        "schema_version": 1,
        "mode": "online",
        "temperature": config.evaluate.temperature,
        "mix": mix,
        "mix_alpha": config.evaluate[mix] if mix != "none" else 0.0,
        "teacher": teacher.arch,
        "teacher_sha256": workdir.read_json(workdir.teacher / "card.json")["sha256"],
    }
    identity = fingerprint(header, images, labels)
    record = workdir.read_json(path) if path.exists() else {}
    if record.get("fingerprint") != identity:
        measured = _measure(teacher, images, labels)
        record = {**header, **dataclasses.asdict(measured), "fingerprint": identity}
        workdir.write_json(path, record)
        log = MetricsLog(workdir.metrics_jsonl)
        log.write("relabel", mode=record["mode"], **dataclasses.asdict(measured))
    if "stored" in config.evaluate.labels:
        files, protocol = plan_labels(config, workdir, describe(config), teacher, images)
        order_seed = config.labels.order_seed
        make_labels(files, protocol, config.seed, order_seed, teacher, images)
        stored = describe_labels(config, files, protocol, teacher, images)
        workdir.write_json(path, {**record, "mode": "stored", "stored": stored})
    return RelabelResult(
        **{part.name: record[part.name] for part in dataclasses.fields(RelabelResult)}
    )


def _measure(
    teacher: Network, images: UInt8[np.ndarray, "n s s 3"], labels: Int64[np.ndarray, " n"]
) -> RelabelResult:
    """Shows the teacher the distilled images."""
    moments = Statistics.of(teacher.mean, teacher.std)
    mesh = device_mesh(data_parallel.IMAGES)
    variables = data_parallel.replicate(teacher.variables, mesh)
    program = programs.inference_program(teacher.module.apply, mesh)
    logits = programs.apply_in_batches(lambda part: program(variables, part, moments), images)
    probabilities = np.asarray(jax.nn.softmax(logits))
    return RelabelResult(
        images=len(images),
        teacher_top1=100 * float(np.mean(logits.argmax(axis=1) == labels)),
        mean_true_class_probability=float(probabilities[np.arange(len(labels)), labels].mean()),
    )
