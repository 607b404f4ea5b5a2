"""What the configs share: `get_base` with every option and its default, arguments, the smoke run.

A data set's file calls `get_base()` and overrides a few lines. The options themselves, with their meaning, are in
delt_jax/defaults.py, where the Python API finds them as well.
"""

import difflib
import re
from typing import Any

import ml_collections

from delt_jax import overrides
from delt_jax.defaults import get_base as get_base
from delt_jax.errors import InputError

# Arguments that stand for an option: one that the command line gives is the argument's value.
OPTIONS = {
    "ipc": "ipc",
    "name": "data.name",
    "source": "data.source",
    "size": "data.image_size",
    "teacher": "teacher.arch",
    "weights": "teacher.weights",
    "statistics": "teacher.statistics",
}
# What lies between commas that are not escaped and not within a value in quotes.
_ITEM = re.compile(r"""(?:=\s*(?:"[^"]*"|'[^']*')\s*(?=,|$)|\\,|[^,])+""")


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
    r"""Reads the part of `--config=file.py:ipc=10,smoke` after the colon.

    Args:
      arg: comma-separated `name=value`, or a bare `name` for True. A value with a comma is written in quotes,
        or the comma as `\,`.
      **defaults: the names there are, with their defaults; a value gets the type of its default.

    Raises:
      InputError: for a name that is not among them or a value of another type.
    """
    values = ml_collections.ConfigDict(defaults)
    before = ""
    for item in filter(None, map(str.strip, _ITEM.findall(arg or ""))):
        name, equals, text = item.partition("=")
        name = name.strip()
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1) or sorted(defaults)
            hint = (
                f"; for a comma within {before} write \\, or put its value in quotes"
                if before
                else ""
            )
            raise InputError(f"config argument: got {name!r}, expected {' or '.join(near)}{hint}")
        values[name] = _parse(name, _unquoted(text) if equals else "true", type(defaults[name]))
        before = name if type(defaults[name]) is str else ""
    given = overrides.current()
    for name, path in OPTIONS.items():
        if name in defaults and path in given:
            values[name] = given[path]
    return values


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    return text.replace("\\,", ",")


def written(value: Any) -> str:
    """Writes a value so that `parse_arg` reads it again."""
    return str(value).replace(",", "\\,")


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() in ("true", "1", "false", "0"):
            return text.lower() in ("true", "1")
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise InputError(f"config argument {name}: got {text!r}, expected {kind.__name__}")


SMOKE_IMAGES = 30  # of each class


def shrink(c: ml_collections.ConfigDict) -> None:
    """Turns a config into a smoke run: every stage runs, in about a minute, to no use.

    The shape of the run stays (rounds, crops, controls); its length shrinks. Where no source is given,
    the embedded digits at 32 x 32 stand in for the data set, so that nothing need be there.
    """
    if not c.data.source:
        c.data.name = "digits"
        c.data.image_size = 32
    c.data.images_per_class = SMOKE_IMAGES
    c.ipc = min(c.ipc, 4)
    c.synthesis.iterations, c.synthesis.round_iterations = 4, 2
    c.synthesis.log_every = 1
    c.evaluate.epochs = 2
    c.evaluate.eval_every = 1
    c.evaluate.seeds = c.evaluate.seeds[:2]
    c.labels.epochs = min(c.labels.epochs, 2)
    c.teacher.squeeze.epochs = 1
    c.teacher.squeeze.warmup_epochs = 0.5
    c.teacher.squeeze.stored_side = 0
