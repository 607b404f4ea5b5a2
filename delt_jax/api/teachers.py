"""Teachers of the API: trained on images, or loaded."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from delt_jax.api.data import Images
from delt_jax.api.scratch import scratch
from delt_jax.api.settings import make_config
from delt_jax.core import programs
from delt_jax.errors import InputError
from delt_jax.models import registry
from delt_jax.models.network import CARD, Network, load_network, save_network
from delt_jax.runtime import strict_json
from delt_jax.runtime.progress import Advance, listening
from delt_jax.runtime.workdir import expanded
from delt_jax.stages import diversity, squeeze
from delt_jax.stages.cropped_images import CroppedImages
from delt_jax.stages.select import check_classes
from delt_jax.stages.teacher_training import Recipe


def train_teacher(
    train: Images,
    test: Images | None = None,
    *,
    arch: str | None = None,
    statistics: str | None = None,
    seed: int = 0,
    on_progress: Callable[[Advance], object] | None = None,
    **options: Any,
) -> Network:
    """Trains a network on real images and hard labels.

    >>> import delt_jax
    >>> train, test = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, test, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> teacher.arch, teacher.num_classes, 0 <= teacher.top1 <= 100
    ('conv3_w32', 10, True)

    Args:
      train: the training images.
      test: images to measure its accuracy on; None: `top1` is None.
      arch: a name of `delt_jax.models.registry.NAMES` with BatchNorm; by default `resnet18`.
      statistics: of its inputs: "dataset" (the default), "imagenet", or numbers as "mean/std".
      seed: of the initial weights, the order and the views.
      on_progress: called with a `delt_jax.Advance` in place of a progress bar.
      **options: see `delt_jax.options("train_teacher")`: epochs, batch_size, learning_rate, ...

    Returns:
      The teacher; `.apply(images)` gives the logits of normalised images.

    Raises:
      InputError: for an option that is wrong, or training that diverges.
    """
    config = make_config(
        "train_teacher", options, seed=seed, teacher__arch=arch, teacher__statistics=statistics
    )
    registry.check_teacher(config.teacher.arch)
    side = Recipe.read(config.teacher.squeeze).side(train.image_size)
    if test is not None:
        _check_same_classes(train, test)
    with scratch() as workdir, listening(on_progress):
        crops = CroppedImages(train.source, side)
        teacher, _ = squeeze.train_from_scratch(
            config.teacher, train.spec, crops, config.seed, workdir
        )
        return teacher if test is None else _tested(teacher, test)


def load_teacher(
    weights: str | os.PathLike[str],
    data: Images | None = None,
    *,
    arch: str | None = None,
    statistics: str | None = None,
    weights_key: str | None = None,
    classes: str | Sequence[str | int] | None = None,
    test: Images | None = None,
) -> Network:
    """Opens a teacher: one that delt_jax made, or weights of torch, by file, address or name.

    >>> import tempfile
    >>> import delt_jax
    >>> train, _ = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     delt_jax.save_teacher(teacher, folder)
    ...     again = delt_jax.load_teacher(folder, train)
    >>> again.arch, again.class_names == train.class_names
    ('conv3_w32', True)

    Args:
      weights: a work directory or its `teacher/` folder; or `.safetensors`, `.pth`, `.pt`, ...,
        an address, `torchvision`, `torchvision:V2`, `timm`, which need `data`, and `arch` where it
        is not `resnet18`.
      data: images of the classes that it knows; they are compared.
      arch: the network that the weights are of.
      statistics: of its inputs: "dataset", "imagenet", or numbers as "mean/std"; by default those
        that come with the weights, else the data set's.
      weights_key: which of several sets of weights in the file, as "state_dict_ema"; by default the
        one there is, or the one that is no average.
      classes: what the outputs of the weights are, where they are not the data's classes in their
        order: a data set ("imagenet1k"), a file of names, names, or a row for each class.
      test: images to measure its accuracy on.

    Raises:
      InputError: where it is not there, damaged, or of other classes than the data.
    """
    folder = pathlib.Path(weights).expanduser()
    cards = [path for path in (folder, folder / "teacher") if (path / CARD).is_file()]
    if cards and arch is None and statistics is None and weights_key is None and classes is None:
        teacher = load_network(cards[0])
    elif cards and data is None:
        raise InputError(
            f"teacher {str(weights)!r}: arch, statistics, weights_key or classes without data; "
            "expected data together with them"
        )
    elif data is None:
        raise InputError(
            f"teacher {str(weights)!r}: no folder with a {CARD}; expected one, or weights together "
            "with data, whose classes they know"
        )
    else:
        if cards and arch is None:
            arch = load_network(cards[0]).arch
        if classes is not None and not isinstance(classes, str):
            classes = strict_json.dumps([str(entry) for entry in classes])
        config = make_config(
            "train_teacher",
            {},
            teacher__arch=arch,
            teacher__statistics=statistics,
            teacher__weights=str(cards[0] if cards else weights),
            teacher__weights_key=weights_key,
            teacher__classes=classes,
        )
        teacher = squeeze.import_teacher(config.teacher, data.spec, data.class_names)
    if data is not None:
        check_fit(teacher, data)
    return teacher if test is None else _tested(teacher, test)


def save_teacher(teacher: Network, folder: str | os.PathLike[str]) -> None:
    """Writes a teacher: `weights.safetensors`, a torch state_dict, and `card.json`.

    `load_teacher` opens the folder, and so does `weights=FOLDER` on the command line; see there.
    """
    save_network(teacher, expanded(folder))


def features(network: Network, images: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n d"]:
    """A network's features of images, before its last layer: float32, in inference mode.

    >>> import delt_jax
    >>> train, _ = delt_jax.load_data("digits", images_per_class=20)
    >>> teacher = delt_jax.train_teacher(train, arch="conv3_w32", epochs=1, warmup_epochs=0.5)
    >>> delt_jax.features(teacher, train.images).shape
    (200, 512)

    Args:
      network: any that delt_jax has.
      images: uint8, as `Images.images` and `Distilled.images` are.
    """
    return programs.apply_in_batches(diversity.penultimate(network), np.asarray(images))


def check_fit(teacher: Network, data: Images) -> None:
    """Raises `InputError` where a teacher knows other classes, or images of another size."""
    check_classes(teacher, data.source)
    if teacher.image_size != data.image_size:
        raise InputError(
            f"images of {data.image_size} x {data.image_size} pixels; expected the "
            f"{teacher.image_size} of the teacher (image_size= of the data sets it)"
        )


def _tested(teacher: Network, test: Images) -> Network:
    accuracy = squeeze.measure_teacher(teacher, CroppedImages(test.source, teacher.image_size))
    return dataclasses.replace(teacher, top1=accuracy.top1)


def _check_same_classes(train: Images, test: Images) -> None:
    if train.class_names != test.class_names:
        raise InputError(
            f"test images of {len(test.class_names)} classes ({test.class_names[0]!r}, ...), "
            f"training images of {len(train.class_names)} ({train.class_names[0]!r}, ...); "
            "expected the same names in the same order"
        )
