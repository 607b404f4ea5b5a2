"""Classes of two sets of images, matched by their names."""

import re
import unicodedata
from collections.abc import Mapping, Sequence


def match_classes(found: Mapping[int, str], expected: Sequence[str], where: str) -> dict[int, int]:
    """The class of a set that each class of other images is, by its name.

    Names count in any Unicode form, and without the number that exports put before them. Where one
    side has numbers for names ("0", "01", "new001"), they say which class it is.

    Args:
      found: names of the other images' classes, by label.
      expected: names of the set's classes, in label order.
      where: the other images are, for errors.

    Raises:
      ValueError: naming the first class that the set does not have.
    """
    for key in (_composed, _without_number):
        numbers: dict[str, list[int]] = {}
        for number, name in enumerate(expected):
            numbers.setdefault(key(name), []).append(number)
        names = [key(name) for name in found.values()]
        if all(len(numbers.get(name, ())) == 1 for name in names) and len({*names}) == len(names):
            return {label: numbers[key(name)][0] for label, name in found.items()}
    said = {label: number for label, name in found.items() if (number := _number(name)) is not None}
    if [_number(name) for name in expected] == list(range(len(expected))):
        said = {label: label for label in found}
    elif len(said) < len(found) or min(said.values()) > 0:
        known = {_without_number(name) for name in expected}
        odd = next(
            (n for n in found.values() if _without_number(n) not in known), found[min(found)]
        )
        raise ValueError(
            f"{where}: class {odd!r}; expected the distilled set's, by name "
            f"({', '.join(map(repr, expected[:3]))}, ...) or by number from 0"
        )
    if max(said.values()) >= len(expected):
        classes = max(said.values()) + 1
        raise ValueError(
            f"{where}: {classes} classes; expected the distilled set's {len(expected)}"
        )
    return said


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _without_number(name: str) -> str:
    return re.sub(r"^\d{3,}_", "", _composed(name)).casefold()


def _number(name: str) -> int | None:
    digits = re.fullmatch(r"(?:new|class)?([0-9]+)", name)
    return int(digits[1]) if digits else None
