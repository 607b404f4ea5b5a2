"""The interface of every data set, and what its images are called where no file names them."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.data.class_order import numbered, text_of
from delt_jax.errors import InputError

_MOST_CLASSES = 1_000_000  # ImageNet-21K has 21,841
_UNLABELLED = (2**8 - 1, 2**16 - 1, 2**32 - 1)  # -1 as an unsigned number


class ImageSource(Protocol):
    """One split of a data set, read at random.

    Attributes:
      labels: class of each image.
      names: "class/file" of each image: relative, unique, the same in every run. What ranking.csv
        and manifest.json call it.
      class_names: in label order.
      split: "train" or "test"; "" where nothing tells. Two splits may use the same names.
    """

    split: str
    labels: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns image `index` as RGB of any size; raises `InputError` if it cannot be read."""
        ...


def numbered_names(
    class_names: Sequence[str],
    labels: Int64[np.ndarray, " n"],
    prefix: str = "",
    first: int = 0,
) -> tuple[str, ...]:
    """Returns the names of images that have none: "class/prefix00017.png".

    The number alone makes a name unique; the class comes first, as in an ImageFolder.

    Args:
      class_names: in label order; what cannot be in the name of a folder is replaced.
      labels: class of each image.
      prefix: put before the number.
      first: number of the first image.
    """
    width = max(5, len(str(first + len(labels) - 1)))
    folders = [_folder_name(name) for name in class_names]
    return tuple(
        f"{folders[label]}/{prefix}{number:0{width}d}.png"
        for number, label in enumerate(labels.tolist(), first)
    )


def numbered_classes(labels: Int64[np.ndarray, " n"], what: str) -> tuple[str, ...]:
    """Names classes that have none by their numbers, up to the largest label.

    Args:
      labels: from 0.
      what: they are, for errors.

    Raises:
      InputError: for labels that begin above 0, a number that stands for no label, and one that no
        data set has classes for, but a damaged file may hold.
    """
    values = np.unique(labels)
    smallest, largest = int(values[0]), int(values[-1])
    if smallest > 0 and len(values) > 1:
        raise InputError(
            f"{what}: labels from {smallest} to {largest}, none of class 0; expected labels from 0 "
            f"(subtract {smallest}, or name the classes)"
        )
    if largest in _UNLABELLED and len(values) > 1 and values[-2] < largest - 1:
        raise InputError(
            f"{what}: label {largest} above labels up to {values[-2]}; expected labels from 0 "
            f"({about_label(largest, int(values[-2]) + 1)})"
        )
    if largest >= _MOST_CLASSES:
        raise InputError(
            f"{what}: label {largest}; expected labels from 0 to {_MOST_CLASSES - 1:,}"
        )
    return tuple(numbered(largest + 1))


def about_label(label: int, classes: int) -> str:
    """Says in a few words where a label outside of 0 to `classes` - 1 mostly comes from."""
    if label == classes:
        return "do they begin with 1?"
    if label == -1 or label in _UNLABELLED:
        return f"{label} mostly stands for no label" + (", -1 without a sign" if label > 0 else "")
    return f"there are {classes} classes"


def distinct(class_names: Iterable[str | bytes], where: str = "") -> tuple[str, ...]:
    """Returns class names in one Unicode form, and tells those of one name apart by their numbers.

    ImageNet has two cranes. One name in two Unicode forms is one class, counted twice by mistake.

    Args:
      class_names: in label order; texts, or bytes in UTF-8.
      where: they stand, the beginning of an error.

    Raises:
      InputError: for a name that cannot be written down in UTF-8, as every result does, and for one
        name in two Unicode forms.
    """
    forms: dict[str, str | bytes] = {}
    seen: set[str] = set()
    names = []
    for label, form in enumerate(class_names):
        name = text_of(form, where)
        if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise InputError(
                f"{where}class {label} is called {name!r}; expected text that UTF-8 can hold"
            )
        if forms.setdefault(name, form) != form:
            raise InputError(
                f"{where}class {label}: {form!a} and {forms[name]!a} are one name, {name!r}, in "
                "two Unicode forms; expected one class of that name"
            )
        while name in seen:
            name = f"{name} (class {label})"
        names.append(name)
        seen.add(name)
    return tuple(names)


def _folder_name(class_name: str) -> str:
    name = re.sub(r"[/\\\x00-\x1f]", "_", class_name)
    return name if name.strip(". ") else f"_{name}"
