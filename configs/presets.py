"""Methods as overrides of a config, never copies of it; and what the data sets' files share."""

import difflib
from typing import Any

import ml_collections

from configs import base
from delt_jax import overrides
from delt_jax.data import sources, specs
from delt_jax.errors import InputError


def delt(c: ml_collections.ConfigDict) -> None:
    """DELT (arXiv 2411.19946): what `base.get_base` has."""
    del c


def early_only(c: ml_collections.ConfigDict) -> None:
    """Constant iterations: all images of DELT's selection are optimised from the start, so that nothing joins late."""
    c.synthesis.early_late = False


# Learning rate and weight of BatchNorm matching; elsewhere those of ImageNet-1K.
CDA_SETTINGS = {"tiny-imagenet": (0.4, 0.05)}
SRE2L_SETTINGS = {"tiny-imagenet": (0.1, 1.0)}
IMAGENET_SETTINGS = (0.25, 0.01)


def cda(c: ml_collections.ConfigDict) -> None:
    """CDA (arXiv 2311.18838): from noise, one image of each class a batch, crops from easy to hard.

    Settings of recover.sh in VILA-Lab/SRe2L CDA/ at 8d00cba, for ImageNet-1K and Tiny-ImageNet; there is none for other
    data sets, which take ImageNet-1K's. `--config.synthesis.initial=real` is the paper's "CDA + real".
    """
    _across_classes(c, *CDA_SETTINGS.get(_spec(c).name, IMAGENET_SETTINGS))
    c.synthesis.crop_curriculum, c.synthesis.milestone = "cosine", 1.0


def sre2l(c: ml_collections.ConfigDict) -> None:
    """SRe2L (arXiv 2306.13092): from noise, one image of each class a batch, crops of any size from the start.

    Settings of recover.sh in VILA-Lab/SRe2L at 8d00cba, likewise; but its 1,000 iterations without crops for CIFAR-100
    are not taken over: as many iterations as the other methods, cropped, make a comparison of the rest.
    """
    _across_classes(c, *SRE2L_SETTINGS.get(_spec(c).name, IMAGENET_SETTINGS))
    c.synthesis.milestone = 0.0


def _across_classes(c: ml_collections.ConfigDict, learning_rate: float, bn_weight: float) -> None:
    """What SRe2L and CDA share."""
    synthesis = c.synthesis
    synthesis.early_late = False
    synthesis.initial, synthesis.layout = "noise", "across"
    synthesis.learning_rate, synthesis.bn_weight = learning_rate, bn_weight
    synthesis.jitter = 32 if _spec(c).image_size > 64 else 4


def _spec(c: ml_collections.ConfigDict) -> specs.DatasetSpec:
    return sources.describe(c.data.name, c.data.source, c.data.image_size or None)


def rded(c: ml_collections.ConfigDict) -> None:
    """RDED (arXiv 2312.03526): the teacher's favourite patches of real images, and no synthesis.

    The best of 5 random crops of each of 300 images per class; up to 64 px the best patches as they are, above
    mosaics of 2 x 2 (LINs-lab/RDED scripts/ at 3f6453d). Students are trained as DELT's, whose protocol grew out of
    RDED's. The selected images are the distilled ones, so they are not evaluated twice.
    """
    c.select.mode = "top"
    c.select.crops = 5
    c.select.factor = 2 if _spec(c).image_size > 64 else 1
    overrides.apply(c)  # as many images as a factor that is given needs
    c.select.images_per_class = max(300, int(c.ipc) * int(c.select.factor) ** 2)
    _real_images(c, "selected")


def selected(c: ml_collections.ConfigDict) -> None:
    """A control: the real images that DELT begins with, as they are."""
    _real_images(c, "selected")


def random(c: ml_collections.ConfigDict) -> None:
    """A control: real images drawn at random, one draw for all students, as a synthesis is one for all."""
    c.select.mode = "random"
    _real_images(c, "selected", "random")


def _real_images(c: ml_collections.ConfigDict, *repeated: str) -> None:
    """No synthesis; of the sets to evaluate those are left out that are the distilled images then."""
    c.synthesis.iterations = 0
    c.synthesis.early_late = False
    c.evaluate.sets = tuple(name for name in c.evaluate.sets if name not in repeated)


METHODS = {
    function.__name__: function
    for function in (delt, early_only, cda, sre2l, rded, selected, random)
}
WITHOUT_SYNTHESIS = ("rded", "selected", "random")  # real images, or patches of them


def choose(c: ml_collections.ConfigDict, method: str) -> None:
    """Applies one of `METHODS`, after all that a data set's file sets itself.

    The options that a command line gives are in force (`delt_jax.overrides`): the method sees their values, they win
    over its settings, and a method among them wins over `method`.

    Raises:
      InputError: for a name that is not among them.
    """
    given = overrides.current()
    for name in (method, method := given.get("method", method)):
        if name not in METHODS:
            near = difflib.get_close_matches(name, METHODS, 1) or METHODS
            raise InputError(f"method: got {name!r}, expected {' or '.join(near)}")
    plain = c.copy_and_resolve_references()
    with overrides.in_force({k: v for k, v in given.items() if not overrides.is_of_method(k)}):
        _apply(plain, method)
    _apply(c, method)
    c.method_changes = overrides.changes(plain, c)


def _apply(c: ml_collections.ConfigDict, method: str) -> None:
    overrides.apply(c)
    METHODS[method](c)
    overrides.apply(c)
    c.method = method


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


def begin_small(arg: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """`begin` for small images: ResNet-18 with their stem; for a smoke run, which is for a laptop, ResNet-20."""
    return begin(arg, name, "cifar_resnet20" if arg.smoke else "resnet18_small")


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
        early_only(c)
        c.synthesis.iterations = constant_iterations
    if arg.get("published"):
        published(c)
    if arg.smoke:
        base.shrink(c)
    choose(c, arg.method)
    return c
