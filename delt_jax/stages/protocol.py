"""How a student is trained on a distilled set: the published protocol, and a config's deviations.

Source: `evaluation/argument.py` of VILA-Lab/DELT at f2f81ca.
"""

import dataclasses
from typing import Any

import optax

from delt_jax.core import training
from delt_jax.core.augment.views import StudentViews
from delt_jax.data.specs import Channels, DatasetSpec, statistics
from delt_jax.errors import InputError
from delt_jax.models.network import Network
from delt_jax.runtime import mesh
from delt_jax.stages import options as table

# AdamW's first learning rate by the beginning of the student's name; .001 for any other.
LEARNING_RATES = (
    ("mobilenet", 0.0025),
    ("efficientnet", 0.002),
    ("vgg", 0.0005),
    ("alexnet", 0.0001),
    ("vit", 0.0001),
    ("swin", 0.0001),
    # Not in the published table; as their kin.
    ("tf_efficientnet", 0.002),
    ("deit", 0.0001),
    ("convnext", 0.0001),
)
DEFAULT_LEARNING_RATE = 0.001  # ResNets and ConvNets
ADAMW_WEIGHT_DECAY = 0.01
# Not in the published protocol: what G-VBSM and EDC train students with on Tiny-ImageNet
# (shaoshitong/G_VBSM_Dataset_Condensation at 1ed80b0, shaoshitong/EDC at 80116a7).
SGD_LEARNING_RATE = 0.1
SGD_WEIGHT_DECAY = 5e-4


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Everything that decides how one student is trained; all of it enters its fingerprint.

    Attributes:
      labels: "soft" (the teacher's, of every mixed batch), "hard" (the classes, mixed alike) or
        "stored" (the teacher's of views that were drawn and labelled before).
      epochs: passes over the set.
      batch_size: images of a step.
      optimizer: "adamw" or "sgd".
      learning_rate: in the first epoch.
      momentum: SGD's.
      weight_decay: on parameters of rank > 1.
      average_decay: of the moving average of the variables, which is tested; 0: none is kept.
      temperature: of the teacher's and the student's logits.
      cosine_stretch: see `delt_jax.core.training.student_learning_rate`.
      double_bn_update: see `delt_jax.core.training.student_step`.
      batch_norm: see `delt_jax.core.programs.student_program`.
      compute_dtype: see `delt_jax.core.programs.compute_dtype`.
      views: how images are shown; None: as they are.
      mean: of the student's normalisation.
      std: of the student's normalisation.
      eval_every: epochs between two tests; 0 for the last epoch alone.
    """

    labels: str
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    average_decay: float
    temperature: float
    cosine_stretch: float
    double_bn_update: bool
    batch_norm: str
    compute_dtype: str
    views: StudentViews | None
    mean: Channels
    std: Channels
    eval_every: int

    def is_tested(self, epoch: int) -> bool:
        """Whether the student is tested after `epoch` (from 0): every so often, and at the end."""
        if epoch == self.epochs - 1:
            return True
        return self.eval_every > 0 and epoch % self.eval_every == 0

    def make_optimizer(self) -> optax.GradientTransformation:
        """The optimiser at learning rate 1."""
        if self.optimizer == "sgd":
            return training.sgd(self.weight_decay, self.momentum)
        return training.adamw(self.weight_decay)


def protocol_defaults(
    student: str, ipc: int, num_classes: int, image_size: int = 32
) -> tuple[int, float]:
    """The published batch size and learning rate.

    Args:
      student: architecture.
      ipc: images per class.
      num_classes: of the data set.
      image_size: side in pixels; tells ImageNet-100 from CIFAR-100.

    Returns:
      (batch size, AdamW's learning rate).
    """
    # NOTE(parity): the published table knows IPC 1, 10, 20, 30, 40, 50 and 100 only; an IPC between
    # takes the entry below it.
    batch_size = 10 if ipc < 10 else 50 if ipc < 30 else 100
    if num_classes in (100, 1000):
        batch_size *= 2
        if student.startswith("resnet101") and image_size > 32:  # ImageNet-100 and ImageNet-1K
            batch_size //= 2
    elif num_classes == 200:  # Tiny-ImageNet
        batch_size = 100
    learning_rates = (rate for prefix, rate in LEARNING_RATES if student.startswith(prefix))
    return min(batch_size, ipc * num_classes), next(learning_rates, DEFAULT_LEARNING_RATE)


def check(options: Any) -> None:
    """Checks `config.evaluate`, each option by itself and against the others.

    Raises:
      InputError: naming the first that is wrong, with its value and what is expected.
    """
    table.check(options, "evaluate")
    if options.augment and options.cutmix and options.mixup:
        raise InputError(
            f"evaluate.cutmix {options.cutmix} and evaluate.mixup {options.mixup}: expected one of "
            "them to be 0"
        )
    if "stored" in options.labels:
        if options.augment and options.mixup:
            raise InputError(
                f"evaluate.mixup {options.mixup} with 'stored' in evaluate.labels: expected 0, for "
                "stored views are mixed by CutMix or not at all"
            )
        if "distilled" not in options.sets:
            raise InputError(
                f"evaluate.labels 'stored' with evaluate.sets {tuple(options.sets)}: expected "
                "'distilled' among them, the one set whose labels are stored"
            )


def images_a_step(config: Any, student: str, num_classes: int, image_size: int) -> int:
    """The batch size that is asked for, else the published one; at most as many as there are.

    Args:
      config: reads `ipc` and `evaluate.batch_size`.
      student: architecture.
      num_classes: of the data set.
      image_size: side in pixels.
    """
    published, _ = protocol_defaults(student, config.ipc, num_classes, image_size)
    return min(config.evaluate.batch_size or published, config.ipc * num_classes)


def batch_size(config: Any, student: str, spec: DatasetSpec) -> int:
    """The batch size that a student is trained with on this machine's devices.

    Args:
      config: reads `ipc` and `evaluate.{batch_size,batch_norm}`.
      student: architecture.
      spec: the data set.

    Raises:
      InputError: where the devices cannot share it.
    """
    options = config.evaluate
    size = images_a_step(config, student, spec.num_classes, spec.image_size)
    devices = len(mesh.local_devices())
    if options.batch_norm == "per_device" and size % devices:
        raise InputError(
            f"evaluate.batch_size {size} of {student} with evaluate.batch_norm 'per_device': "
            f"expected a multiple of the {devices} devices"
        )
    return size


def read_protocol(
    config: Any, student: str, spec: DatasetSpec, teacher: Network, labels: str = "soft"
) -> Protocol:
    """The protocol of `config.evaluate` for one student.

    Args:
      config: reads `ipc` and `evaluate`; a batch size or learning rate of 0 is the published one,
        as is a weight decay of -1.
      student: architecture.
      spec: the data set.
      teacher: its statistics may be asked for.
      labels: "soft", "hard" or "stored".

    Raises:
      InputError: naming the option that is out of range.
    """
    options = config.evaluate
    check(options)
    _, learning_rate = protocol_defaults(student, config.ipc, spec.num_classes, spec.image_size)
    weight_decay = ADAMW_WEIGHT_DECAY
    if options.optimizer == "sgd":
        learning_rate, weight_decay = SGD_LEARNING_RATE, SGD_WEIGHT_DECAY
    if options.weight_decay != -1:
        weight_decay = options.weight_decay
    mean, std = statistics(options.statistics, spec, (teacher.mean, teacher.std))
    return Protocol(
        labels=labels,
        epochs=options.epochs,
        batch_size=batch_size(config, student, spec),
        optimizer=options.optimizer,
        learning_rate=options.learning_rate or learning_rate,
        momentum=options.momentum,
        weight_decay=weight_decay,
        average_decay=options.average_decay,
        temperature=options.temperature,
        cosine_stretch=options.cosine_stretch,
        double_bn_update=options.double_bn_update,
        batch_norm=options.batch_norm,
        compute_dtype=options.compute_dtype,
        views=_views(options, labels) if options.augment else None,
        mean=mean,
        std=std,
        eval_every=options.eval_every,
    )


def _views(options: Any, labels: str) -> StudentViews:
    replayed = labels == "stored"  # by any loader, which RandAugment is not
    return StudentViews(
        randaugment_magnitude=0.0 if replayed else options.randaugment_magnitude,
        randaugment_ops=0 if replayed else options.randaugment_ops,
        randaugment_std=0.0 if replayed else options.randaugment_std,
        min_scale=options.min_scale,
        flip_probability=options.flip,
        cutmix=options.cutmix,
        mixup=options.mixup,
    )
