"""Keyword options of the API: those of the command line, with the same defaults."""

import difflib
import functools
from collections.abc import Mapping
from typing import Any

import ml_collections

from delt_jax import defaults, overrides
from delt_jax.errors import InputError
from delt_jax.stages import options as table

# Where the options of each function are looked up, in this order.
SECTIONS: dict[str, tuple[str, ...]] = {
    "train_teacher": ("teacher.squeeze",),
    "rank": ("select",),
    "synthesize": ("synthesis", "distilled", "select"),
    "evaluate": ("evaluate",),
}
# Options of the command line that have a parameter of their own here, or mean nothing here.
ELSEWHERE = {
    "train_teacher": (),
    "rank": ("mode", "factor", "ranking"),
    "synthesize": ("ranking", "naming"),
    "evaluate": ("sets", "real_images"),
}


def options(function: str) -> dict[str, Any]:
    """The options that a function takes, and their defaults: the paper's.

    What each of them means is said in `delt_jax/defaults.py`.

    >>> import delt_jax
    >>> delt_jax.options("synthesize")["learning_rate"]
    0.25

    Args:
      function: "train_teacher", "rank", "synthesize" or "evaluate".

    Raises:
      InputError: for another function.
    """
    if function not in SECTIONS:
        raise InputError(f"options of {function!r}: expected one of {', '.join(SECTIONS)}")
    found: dict[str, Any] = {}
    for path in SECTIONS[function]:
        section = _section(defaults.get_base(), path)
        for name, value in section.items():
            plain = not isinstance(value, ml_collections.ConfigDict)
            if plain and name not in ELSEWHERE[function]:
                found.setdefault(name, value)
    return found


def make_config(function: str, given: Mapping[str, Any], **more: Any) -> Any:
    """The defaults as an `ml_collections.ConfigDict`, with the options that a function was given.

    Args:
      function: see `options`.
      given: its options.
      **more: further values by dotted path with `__` for the dot (`teacher__arch`); None leaves the
        default.

    Raises:
      InputError: for an option that there is not, or a value that it cannot have.
    """
    config, known = defaults.get_base(), options(function)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or sorted(known)
            raise InputError(f"{function}: got the option {name!r}, expected {' or '.join(near)}")
        paths = (path for path in SECTIONS[function] if name in _section(config, path))
        _set(config, f"{next(paths)}.{name}", value)
    for path, value in more.items():
        if value is not None:
            _set(config, path.replace("__", "."), value)
    for section in SECTIONS[function]:
        table.check(_section(config, section), section)
    for path, value in more.items():
        if value is not None:
            table.check_one(path.replace("__", "."), value)
    config.method_changes = overrides.changes(defaults.get_base(), config)
    return config


def _set(config: Any, path: str, value: Any) -> None:
    folder, _, name = path.rpartition(".")
    section: Any = _section(config, folder)
    kind = type(section[name])
    try:
        if (kind is bool) is not isinstance(value, bool):
            raise TypeError
        if kind is tuple:
            value = (value,) if isinstance(value, str) else tuple(value)
        section[name] = value
    except TypeError:
        raise InputError(f"{path}: got {value!r}, expected {kind.__name__}") from None


def _section(config: Any, path: str) -> Any:
    return functools.reduce(lambda part, name: part[name], filter(None, path.split(".")), config)
