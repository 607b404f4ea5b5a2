"""Classes compared by their names, whatever their order and their Unicode form."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64

from delt_jax.errors import InputError


def text_of(name: object, where: str = "") -> str:
    """Returns a class name as text in Unicode's composed form (NFC); bytes are read as UTF-8.

    A file system or an archive may write one name in two forms: "é" as one character or as two.

    Args:
      name: text or bytes.
      where: it stands, the beginning of an error.

    Raises:
      InputError: for bytes that are not UTF-8.
    """
    if isinstance(name, bytes):
        try:
            name = name.decode()
        except UnicodeDecodeError:
            raise InputError(f"{where}class name {name!r}: expected text in UTF-8") from None
    return unicodedata.normalize("NFC", str(name))


def in_order_of(
    labels: Int64[np.ndarray, " n"], found: Sequence[str], expected: Sequence[str], what: str
) -> Int64[np.ndarray, " n"]:
    """Returns labels with the numbers that the classes of the same names have elsewhere.

    Names that are only the classes' numbers say nothing where the other side has others: labels
    stay as they are then.

    >>> in_order_of(np.array([0, 0, 1]), ["dog", "cat"], ["cat", "dog"], "test split").tolist()
    [1, 1, 0]

    Args:
      labels: below `len(found)`.
      found: their class names, in label order.
      expected: class names in the order that is wanted.
      what: the labels are of, for errors.

    Raises:
      InputError: naming the first class with images that has no such name, or a name that two
        classes share where the orders differ.
    """
    numbers = _numbers_in(found, expected, what)
    used = np.unique(labels)
    for label in used[numbers[used] < 0]:
        raise InputError(
            f"{what}: class {label} is {found[label]!r}, which is none of the {len(expected)} "
            f"classes expected there ({', '.join(map(repr, expected[:3]))}, ...)"
        )
    return numbers[labels]


def check_order(found: Sequence[str], expected: Sequence[str], what: str, other: str) -> None:
    """Refuses classes that have other names, or the same ones in another order.

    Args:
      found: class names, in label order.
      expected: those that they are compared with; numbers say nothing, as in `in_order_of`.
      what: the first are of, for errors.
      other: the second are of.

    Raises:
      InputError: naming the first class that differs.
    """
    ours, theirs = ([text_of(name) for name in names] for names in (found, expected))
    if ours == theirs or not ours or not theirs or _says_nothing(ours, theirs):
        return
    longest = range(max(len(ours), len(theirs)))
    at = next(k for k in longest if ours[k : k + 1] != theirs[k : k + 1])
    one, two = (names[at] if at < len(names) else None for names in (ours, theirs))
    raise InputError(
        f"class {at} is {one!r} for {what} and {two!r} for {other}; expected the same names in the "
        "same order"
    )


def numbered(count: int) -> list[str]:
    """Names of classes that have none: their numbers."""
    return [str(number) for number in range(count)]


def _numbers_in(
    found: Sequence[str], expected: Sequence[str], what: str
) -> Int64[np.ndarray, " k"]:
    """The number elsewhere of each class; -1 where it is not there."""
    ours, theirs = ([text_of(name) for name in names] for names in (found, expected))
    if ours == theirs or _says_nothing(ours, theirs):
        return np.arange(len(ours))
    for names in (ours, theirs):
        if twice := _twice(names):
            raise InputError(
                f"{what}: two classes are called {twice!r} and the order of the classes differs; "
                "expected names that tell them apart"
            )
    places = {name: number for number, name in enumerate(theirs)}
    return np.asarray([places.get(name, -1) for name in ours], np.int64)


def _says_nothing(ours: list[str], theirs: list[str]) -> bool:
    """Whether one side has only numbers for names, and the other has others."""
    is_numbered = ours == numbered(len(ours)) or theirs == numbered(len(theirs))
    return is_numbered and set(ours) != set(theirs)


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)
