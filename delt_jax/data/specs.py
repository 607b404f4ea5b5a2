"""The table of data sets: the facts of each that no array says of itself."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

from delt_jax.data import class_names
from delt_jax.errors import InputError

Channels = tuple[float, float, float]  # one number per channel, red green blue, of pixels in [0, 1]

# The statistics nearly everybody normalises ImageNet with (pytorch/examples imagenet/main.py). The
# published method ranks and evaluates *every* data set with them (data_selection.py at f2f81ca).
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)

_LEAST_STD = 1e-6  # far below any image's; pixels are divided by it in float32


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before a byte of it is read.

    Attributes:
      name: what the config calls it.
      num_classes: how many classes there are.
      image_size: S, the side in pixels that teacher and students see.
      mean: mean per channel of pixels in [0, 1].
      std: standard deviation per channel of pixels in [0, 1].
      class_names: in label order, for sources that carry no names; None where each source brings
        its own.
      tfds_name: name in TensorFlow Datasets; None where it has none.
      train_split: name of the training split there, or the part of one that is trained on.
      test_split: name of the split there that is evaluated on; Parquet files use it too.
      randaugment: (magnitude, operations) of the students' RandAugment.
      terms: under which its images may be used, for those who are handed a set made from them; ""
        where we know nothing of it.
    """

    name: str
    num_classes: int
    image_size: int
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    class_names: tuple[str, ...] | None = None
    tfds_name: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    randaugment: tuple[int, int] = (6, 2)
    terms: str = ""


# RandAugment as DELT was evaluated: CIFAR-10 m 5 n 4, Tiny-ImageNet m 4 n 3, ImageNet and its
# subsets m 6 n 2. Ours for other data sets: by image size, as those.
_RANDAUGMENT_32, _RANDAUGMENT_64, _RANDAUGMENT_224 = (5, 4), (4, 3), (6, 2)

_CIFAR_TERMS = (
    "CIFAR is published without a licence; its photographs were collected from the web. To be "
    "cited: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009."
)
_IMAGENET_TERMS = (
    "ImageNet's terms of access (image-net.org/download): non-commercial research and education "
    "alone. The photographs belong to those who took them, and what is made from them falls under "
    "the same caution."
)

# What is called measured, tests/data/test_specs.py measures again.
_ALL = (
    DatasetSpec(
        name="digits",
        num_classes=10,
        image_size=32,
        # Measured on our 1,500 training images as they are served.
        mean=(0.3061, 0.3061, 0.3061),
        std=(0.3239, 0.3239, 0.3239),
        class_names=tuple("0123456789"),
        randaugment=_RANDAUGMENT_32,
        terms="Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, UCI Machine "
        "Learning Repository), CC BY 4.0.",
    ),
    DatasetSpec(
        name="cifar10",
        num_classes=10,
        image_size=32,
        # kuangliu/pytorch-cifar main.py; VILA-Lab/DELT recover/recover.py. The mean is that of all
        # pixels; std is the mean over images of each image's own (measured .2022 .1993 .2009, over
        # all pixels .2470 .2435 .2616), but it is what published teachers were fed.
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        class_names=class_names.CIFAR10,
        tfds_name="cifar10",
        randaugment=_RANDAUGMENT_32,
        terms=_CIFAR_TERMS,
    ),
    DatasetSpec(
        name="cifar100",
        num_classes=100,
        image_size=32,
        # Over all pixels of the training set: weiaicunzai/pytorch-cifar100 conf/global_settings.py.
        # NOTE(parity): VILA-Lab/DELT recover/recover.py gives it CIFAR-10's.
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        class_names=class_names.CIFAR100,
        tfds_name="cifar100",
        randaugment=_RANDAUGMENT_32,
        terms=_CIFAR_TERMS,
    ),
    DatasetSpec(
        name="tiny-imagenet",
        num_classes=200,
        image_size=64,
        # VILA-Lab/DELT recover/recover.py; std again the mean over images of each image's own (ten
        # of the classes: mean .4868 .4435 .3924, std .2168 .2084 .2062).
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2302, 0.2265, 0.2262),
        class_names=class_names.TINY_IMAGENET,
        randaugment=_RANDAUGMENT_64,
        terms=_IMAGENET_TERMS,
    ),
    # ImageNet and its subsets have ImageNet's statistics, as nearly everywhere and in VILA-Lab/DELT
    # recover/recover.py (a fifth of ImageNette: mean .4613 .4533 .4233, std .2739 .2694 .2908).
    DatasetSpec(
        name="imagenette",
        num_classes=10,
        image_size=224,
        class_names=class_names.IMAGENETTE,
        tfds_name="imagenette/full-size-v2",
        test_split="validation",
        terms=_IMAGENET_TERMS,
    ),
    DatasetSpec(
        name="imagewoof",
        num_classes=10,
        image_size=224,
        class_names=class_names.IMAGEWOOF,
        terms=_IMAGENET_TERMS,
    ),
    # Several lists of a hundred classes go by this name: the source's folders say which it is.
    DatasetSpec(name="imagenet100", num_classes=100, image_size=224, terms=_IMAGENET_TERMS),
    DatasetSpec(
        name="imagenet1k",
        num_classes=1000,
        image_size=224,
        class_names=class_names.IMAGENET1K,
        tfds_name="imagenet2012",
        test_split="validation",
        terms=_IMAGENET_TERMS,
    ),
    DatasetSpec(
        name="tf_flowers",
        num_classes=5,
        image_size=224,
        # Measured over all pixels of 2,498 of its 3,670 photos, at 64 x 64.
        mean=(0.5045, 0.4452, 0.3195),
        std=(0.2768, 0.2533, 0.2768),
        class_names=class_names.TF_FLOWERS,
        tfds_name="tf_flowers",
        # TFDS has one split, in an order that it shuffled.
        train_split="train[:85%]",
        test_split="train[85%:]",
        terms="Photographs under CC BY 2.0; LICENSE.txt in the TensorFlow team's archive names the "
        "author of each, who must be named.",
    ),
)

SPECS: dict[str, DatasetSpec] = {spec.name: spec for spec in _ALL}
ALIASES = {"imagenet2012": "imagenet1k"}


def find_spec(name: str) -> DatasetSpec | None:
    """Returns the row of the table, or None for a name that is not in it."""
    return SPECS.get(ALIASES.get(name, name))


def get_spec(name: str) -> DatasetSpec:
    """Returns the row of the table; raises `InputError` naming the nearest names for any other.

    A data set that is not in the table is described by `delt_jax.data.sources.describe`.
    """
    if (spec := find_spec(name)) is not None:
        return spec
    nearest = difflib.get_close_matches(name, SPECS, n=3, cutoff=0.4) or list(SPECS)
    raise InputError(
        f"data set {name!r} is not in the table; nearest: {', '.join(nearest)} "
        "(for a data set of your own, give its path as the source too)"
    )


def randaugment_for(image_size: int) -> tuple[int, int]:
    """Returns the (magnitude, operations) of RandAugment for a data set that is not published."""
    if image_size <= 32:
        return _RANDAUGMENT_32
    return _RANDAUGMENT_64 if image_size <= 64 else _RANDAUGMENT_224


def check_class_order(spec: DatasetSpec, found: Sequence[str], what: str) -> None:
    """Refuses classes that are those of the table's row, but in another order.

    For weights that others published: their outputs are in the table's order.

    Raises:
      InputError: naming the first class that differs.
    """
    ours = spec.class_names
    if ours is None or tuple(found) == ours or set(found) != set(ours):
        return
    at = next(index for index in range(len(ours)) if ours[index] != found[index])
    raise InputError(
        f"{what}: class {at} is {found[at]!r}; expected {ours[at]!r}, as in the published order of "
        f"{spec.name}"
    )


def statistics(
    choice: str | Sequence[Sequence[float]],
    spec: DatasetSpec,
    teacher: Sequence[Sequence[float]] | None = None,
) -> tuple[Channels, Channels]:
    """Returns the (mean, std) that a config's `statistics` entry stands for.

    Args:
      choice: "imagenet", "dataset" (those of `spec`), "teacher", the pair (mean, std) itself, or
        its numbers as text, "0.5/0.5" or "0.5,0.4,0.3/0.2,0.2,0.2".
      spec: the data set.
      teacher: the pair that the teacher was trained with, where the caller has one.

    Raises:
      InputError: for any other word, or a pair that is not two times three numbers.
    """
    if isinstance(choice, str) and "/" in choice:
        choice = _parse_statistics(choice)
    if isinstance(choice, str):
        known: dict[str, Sequence[Sequence[float]]] = {
            "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
            "dataset": (spec.mean, spec.std),
        }
        if teacher is not None:
            known["teacher"] = teacher
        if choice not in known:
            raise InputError(
                f"statistics {choice!r}: expected one of {', '.join(known)}, or numbers as mean/std"
            )
        mean, std = known[choice]
    else:
        mean, std = choice if len(choice) == 2 else ((), ())
    return moments(choice, mean, std)


def _parse_statistics(text: str) -> tuple[list[float], ...]:
    """Reads "mean/std", each one number for all channels or three with commas between."""
    try:
        pair = [[float(number) for number in part.split(",")] for part in text.split("/")]
    except ValueError:
        raise InputError(f"statistics {text!r}: expected numbers as mean/std") from None
    return tuple(part * 3 if len(part) == 1 else part for part in pair)


def check_numbers(text: str) -> None:
    """Raises `InputError` where a text with "/" is no mean/std that `statistics` takes."""
    pair = _parse_statistics(text)
    moments(text, *(pair if len(pair) == 2 else ((), ())))


def moments(choice: object, mean: Any, std: Any) -> tuple[Channels, Channels]:
    """Two times three numbers, which may come from a file.

    Raises:
      InputError: where they are something else; it says `choice`.
    """
    means, deviations = _three(mean), _three(std)
    if means is None or deviations is None:
        raise InputError(
            f"statistics {choice!r}: expected (mean, std) of three finite numbers each"
        )
    if min(deviations) < _LEAST_STD:
        raise InputError(
            f"statistics {choice!r}: a standard deviation of {min(deviations)}; expected at least "
            f"{_LEAST_STD:g}"
        )
    return means, deviations


def _three(part: Any) -> Channels | None:
    """A finite number for each channel; None where it is something else."""
    try:
        red, green, blue = map(float, part)
    except (TypeError, ValueError, OverflowError):
        return None
    return (red, green, blue) if all(map(math.isfinite, (red, green, blue))) else None
