"""Methods as overrides of a config, never copies of it; and what the data sets' files share."""

import difflib
from typing import Any

import ml_collections

from configs import base
from delt_jax.data import sources
from delt_jax.errors import InputError


def delt(c: ml_collections.ConfigDict) -> None:
    """DELT (arXiv 2411.19946): what `base.get_base` has."""
    del c


def constant(c: ml_collections.ConfigDict) -> None:
    """Constant iterations: all images of the same selection are optimised from the start."""
    c.synthesis.early_late = False


def rded(c: ml_collections.ConfigDict) -> None:
    """RDED (arXiv 2312.03526): the teacher's favourite patches of real images, and no synthesis.

    The best of 5 random crops of each of 300 images per class; up to 64 px the best patches as they are, above
    mosaics of 2 x 2 (LINs-lab/RDED scripts/ at 3f6453d). Students are trained as DELT's, whose protocol grew out of
    RDED's. The selected images are the distilled ones, so they are not evaluated twice.
    """
    spec = sources.describe(c.data.name, c.data.source, c.data.image_size or None)
    c.select.mode = "top"
    c.select.crops = 5
    c.select.factor = factor = 2 if spec.image_size > 64 else 1
    c.select.images_per_class = max(300, int(c.ipc) * factor**2)
    c.synthesis.iterations = 0
    c.synthesis.early_late = False
    c.evaluate.sets = tuple(name for name in c.evaluate.sets if name != "selected")


METHODS = {"delt": delt, "constant": constant, "rded": rded}


def choose(c: ml_collections.ConfigDict, method: str) -> None:
    """Applies one of `METHODS`, after all that a data set's file sets itself.

    Raises:
      InputError: for a name that is not among them.
    """
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1) or METHODS
        raise InputError(f"config argument method: got {method!r}, expected {' or '.join(near)}")
    METHODS[method](c)


def published(c: ml_collections.ConfigDict) -> None:
    """The normalisations of the published code, which differ between its stages.

    Ranking and evaluation use ImageNet's statistics for every data set, recovery the data set's own.
    """
    c.select.statistics = "imagenet"
    c.synthesis.statistics = "dataset"
    c.evaluate.statistics = "imagenet"
    c.teacher.statistics = "imagenet"


def convnet_teacher(c: ml_collections.ConfigDict) -> None:
    """A ConvNet as the field trains its networks: SGD at .01, momentum .9, decay 5e-4, batches of 256.

    VICO-UoE/DatasetCondensation utils.py; but the cosine instead of one step down, and Nesterov's momentum.
    """
    squeeze = c.teacher.squeeze
    squeeze.epochs = 100
    squeeze.batch_size = 256
    squeeze.learning_rate = 0.01
    squeeze.momentum = 0.9
    squeeze.weight_decay = 5e-4
    squeeze.label_smoothing = 0.0
    squeeze.warmup_epochs = 1.0


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
    """`base.parse_arg` with the arguments that every data set with a source takes, and `defaults`."""
    shared = {
        "source": "",
        "teacher": "",
        "weights": "",
        "method": "delt",
        "constant": False,
        "smoke": False,
    }
    return base.parse_arg(arg, **shared, **defaults)


def begin(arg: ml_collections.ConfigDict, name: str, teacher: str) -> ml_collections.ConfigDict:
    """The base config of a data set, with its arguments: what is read, and which teacher looks at it."""
    c = base.get_base()
    c.ipc = arg.ipc
    c.data.name = name
    c.data.source = arg.source
    c.teacher.arch = arg.teacher or teacher
    c.teacher.weights = arg.weights
    c.teacher.statistics = arg.get("statistics", c.teacher.statistics)
    return c


def finish(
    c: ml_collections.ConfigDict, arg: ml_collections.ConfigDict, constant_iterations: int
) -> ml_collections.ConfigDict:
    """Applies what goes over all that a data set's file sets: the paper's IPC 1, `published`, `smoke`, `method`.

    Args:
      c: the config.
      arg: from `parse_arg`.
      constant_iterations: the paper's for ResNet-18 at IPC 1, where they are constant.
    """
    if arg.ipc == 1:
        constant(c)
        c.synthesis.iterations = constant_iterations
    if arg.get("published"):
        published(c)
    if arg.smoke:
        base.shrink(c)
    choose(c, "constant" if arg.constant else arg.method)
    return c
