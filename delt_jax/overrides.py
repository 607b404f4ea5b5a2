"""Options that a command line gives beside a config's file, and what they change of a method.

They are in force while the file is read: its arguments have their values, what a method derives
from the IPC, the image size or the data set follows from them, and they win over its settings.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from delt_jax.errors import InputError
from delt_jax.stage import flatten

_OPTIONS: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("overrides")

# The sections that make a method, but for where scores come from and what only arranges the work.
SECTIONS = ("select.", "synthesis.")
ARRANGEMENT = (
    *("select.batch_size", "select.ranking"),
    *("synthesis.class_batches_per_device", "synthesis.sliced", "synthesis.steps_per_call"),
    "synthesis.log_every",
)


@contextlib.contextmanager
def in_force(options: Mapping[str, Any]) -> Iterator[None]:
    """Puts options in force in place of any others, by dotted path."""
    token = _OPTIONS.set(options)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def current() -> Mapping[str, Any]:
    """Returns the options in force, by dotted path; none outside of a command line."""
    return _OPTIONS.get({})


def apply(config: Any) -> None:
    """Sets the options in force.

    Args:
      config: an `ml_collections.ConfigDict` that has them.

    Raises:
      InputError: for an option that the config lacks, or a value of another type.
    """
    for path, value in current().items():
        section, _, name = path.rpartition(".")
        try:
            part = functools.reduce(lambda a, b: a[b], filter(None, section.split(".")), config)
            kind = type(part[name]).__name__
        except (KeyError, TypeError):
            raise InputError(f"{path}: no such option in the config") from None
        try:
            part[name] = value
        except TypeError:
            raise InputError(f"{path}: got {value!r}, expected {kind}") from None


def is_of_method(path: str) -> bool:
    """Returns whether an option is one of those that make a method."""
    return path.startswith(SECTIONS) and path not in ARRANGEMENT


def changes(plain: Any, config: Any) -> tuple[str, ...]:
    """Returns what a config changes of a method, as `path=value`.

    Args:
      plain: the config of the method itself.
      config: the one that runs.
    """
    before, now = flatten(plain.to_dict()), flatten(config.to_dict())
    return tuple(
        f"{path}={value}"
        for path, value in now.items()
        if is_of_method(path) and path in before and before[path] != value
    )


def named(method: str | None, changed: Any) -> str:
    """Returns a method's name for people, with what was changed of it."""
    listed = ", ".join(map(str, changed)) if isinstance(changed, list | tuple) else ""
    return f"{method} ({listed})" if listed else str(method)
