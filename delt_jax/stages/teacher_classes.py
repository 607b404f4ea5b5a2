"""Which outputs of a teacher's classifier are the classes of the data set."""

import json
import pathlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from delt_jax.data.specs import SPECS, find_spec
from delt_jax.errors import InputError, did_you_mean

_WORDNET = re.compile(r"n\d{8}(?=$|[\s_,-])")
_LARGEST_FILE = 10_000_000  # bytes; a thousand names take some ten thousand


def choose_rows(option: str, class_names: Sequence[str], outputs: int) -> tuple[int, ...]:
    """The rows of a classifier that are the data set's classes, in their order.

    >>> choose_rows("bird,cat,dog", ("dog", "bird"), 3)
    (2, 0)
    >>> choose_rows("7,4", ("dog", "bird"), 10)
    (7, 4)

    Args:
      option: `teacher.classes`: a data set of the table whose classes the outputs are; or a list,
        in a file, in JSON or with commas between. The list has the names of all outputs, or, for
        each class of the data set, a row or its name among ImageNet's classes.
      class_names: of the data set.
      outputs: rows of the classifier.

    Raises:
      InputError: where the option says nothing of the kind, or a class is not among the outputs.
    """
    entries = _entries(option)
    count = len(class_names)
    numbers = [int(entry) for entry in entries if re.fullmatch(r"-?\d{1,9}", entry)]
    if len(numbers) == len(entries) == count:
        beyond = [row for row in numbers if not 0 <= row < outputs]
        if beyond:
            raise InputError(f"teacher.classes: row {beyond[0]}, expected 0 to {outputs - 1}")
        rows = numbers
    elif len(entries) == outputs:
        rows = [_find(name, _aliases_of_all(entries), "teacher.classes") for name in class_names]
    elif len(entries) == count and (known := _known_lists(outputs)):
        name, names = next(iter(known.items()))
        aliases = _aliases_of_all(names)
        rows = [_find(entry, aliases, f"the classes of {name}") for entry in entries]
    else:
        raise InputError(
            f"teacher.classes: got {len(entries)} entries; expected the names of the {outputs} "
            f"outputs of the weights, or a row for each of the {count} classes"
        )
    for index, row in enumerate(rows):
        if row in rows[:index]:
            both = f"{class_names[rows.index(row)]!r} and {class_names[index]!r}"
            raise InputError(f"teacher.classes: row {row} is taken for {both}; expected it once")
    return tuple(rows)


def advice(class_names: Sequence[str], outputs: int) -> str:
    """What `teacher.classes` could say of weights with another number of classes."""
    for name, names in _known_lists(outputs).items():
        aliases = _aliases_of_all(names)
        try:
            rows = [_find(wanted, aliases, name) for wanted in class_names]
        except InputError:
            continue
        shown = ", ".join(map(str, rows[:4])) + (", ..." if len(rows) > 4 else "")
        how = "WordNet id" if _WORDNET.match(names[0]) else "name"
        return (
            f"by {how} the classes are rows {shown} of {name}'s: teacher.classes={name} takes them"
        )
    return (
        "teacher.classes says which of them the classes are: their names, a file of them, or rows"
    )


def _known_lists(outputs: int) -> dict[str, tuple[str, ...]]:
    """The table's lists of that many classes."""
    lists = {name: spec.class_names for name, spec in SPECS.items()}
    return {name: names for name, names in lists.items() if names and len(names) == outputs}


def _entries(option: str) -> list[str]:
    """The names or numbers that the option lists."""
    spec = find_spec(option)
    if spec is not None and spec.class_names is not None:
        return list(spec.class_names)
    path = pathlib.Path(option).expanduser()
    if option.startswith("["):
        entries = _parse_json(option, "teacher.classes")
    elif _is_file(path):
        text = _read(path)
        is_json = path.suffix.lower() == ".json"
        entries = _parse_json(text, str(path)) if is_json else text.splitlines()
    elif "," in option or option.isdigit():
        entries = option.split(",")
    else:
        named = [name for name, spec in SPECS.items() if spec.class_names]
        raise InputError(
            f"teacher.classes: got {option!r}{did_you_mean(option, named)}; expected a data set of "
            f"the table ({', '.join(named)}), a file, or a list with commas between"
        )
    return [entry.strip() for entry in entries if entry.strip()]


def _is_file(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a list that is too long for a path
        return False


def _read(path: pathlib.Path) -> str:
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path}: {path.stat().st_size:,} bytes, expected a list of classes")
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text in UTF-8, expected a list of classes") from error


def _parse_json(text: str, what: str) -> list[str]:
    """A list of names, or an object of them by number (imagenet_class_index.json, id2label)."""
    try:
        value: Any = json.loads(text)
        if isinstance(value, Mapping):
            value = value.get("id2label", value)
            value = [value[str(number)] for number in range(len(value))]
        return [
            " ".join(map(str, entry)) if isinstance(entry, list) else str(entry) for entry in value
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{what}: no list of classes in JSON; expected names in a list, or by number from 0 on"
        ) from error


def _plain(name: str) -> str:
    composed = unicodedata.normalize("NFC", name)  # file systems and editors write é in two ways
    return " ".join(composed.replace("_", " ").casefold().split())


def _aliases(name: str) -> list[str]:
    """What a class may be called by: its name, its WordNet id, the words after it, synonyms."""
    words = name
    if match := _WORDNET.match(name):
        words = name[match.end() :].lstrip(" \t_,-")
    parts = [name, match[0] if match else "", words, *words.split(",")]
    return [alias for alias in dict.fromkeys(map(_plain, parts)) if alias]


def _aliases_of_all(names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for alias in _aliases(name):
            rows.setdefault(alias, []).append(row)
    return rows


def _find(wanted: str, rows: Mapping[str, list[int]], where: str) -> int:
    """The row of a class by its name, which must be that of one row alone."""
    for alias in _aliases(wanted):
        if len(found := rows.get(alias, [])) == 1:
            return found[0]
        if found:
            shown = ", ".join(map(str, found))
            raise InputError(
                f"class {wanted!r}: rows {shown} of {where} have this name; expected one"
            )
    raise InputError(
        f"class {wanted!r}: expected one of {where}, as {next(iter(rows), '')!r}"
        f"{did_you_mean(_plain(wanted), rows)}"
    )
