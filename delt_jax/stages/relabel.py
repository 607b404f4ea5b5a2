"""relabel: how the students get their labels.

Mode "online", the published one, stores no label: while a student trains, the teacher labels every
mixed batch anew. The stage records that, and what the teacher makes of the distilled images as they
are.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from delt_jax.core import data_parallel, programs
from delt_jax.core.augment.views import Statistics
from delt_jax.export.image_folder import read_distilled
from delt_jax.models.network import load_network
from delt_jax.runtime.mesh import device_mesh
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.cropped_images import apply_in_batches

MODE = "online"


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
    """Writes labels/labels.json.

    Args:
      config: an `ml_collections.ConfigDict`; reads `evaluate.{temperature,augment,cutmix,mixup}`.
      workdir: reads the teacher and the distilled images.

    Raises:
      InputError: where one of them is missing or damaged.
    """
    teacher = load_network(workdir.teacher)
    images, labels, _ = read_distilled(workdir.distilled)
    moments = Statistics.of(teacher.mean, teacher.std)
    mesh = device_mesh(data_parallel.IMAGES)
    variables = data_parallel.replicate(teacher.variables, mesh)
    program = programs.inference_program(teacher.module.apply, mesh)
    logits = apply_in_batches(lambda part: program(variables, part, moments), images)
    probabilities = np.asarray(jax.nn.softmax(logits))
    result = RelabelResult(
        images=len(images),
        teacher_top1=100 * float(np.mean(logits.argmax(axis=1) == labels)),
        mean_true_class_probability=float(probabilities[np.arange(len(labels)), labels].mean()),
    )
    mixes = [name for name in ("cutmix", "mixup") if config.evaluate[name]]
    mix = mixes[0] if config.evaluate.augment and mixes else "none"
    card = workdir.read_json(workdir.teacher / "card.json")
    workdir.write_json(
        workdir.labels / "labels.json",
        {
            "schema_version": 1,
            "mode": MODE,
            "temperature": config.evaluate.temperature,
            "mix": mix,
            "mix_alpha": config.evaluate[mix] if mix != "none" else 0.0,
            "teacher": teacher.arch,
            "teacher_sha256": card["sha256"],
            **dataclasses.asdict(result),
        },
    )
    MetricsLog(workdir.metrics_jsonl).write("relabel", mode=MODE, **dataclasses.asdict(result))
    return result
