"""What the configs share: `get_base` with every option and its default, arguments, the smoke run.

A data set's file calls `get_base()` and overrides a few lines. The options themselves, with their meaning, are in
delt_jax/defaults.py, where the Python API finds them as well.
"""

import difflib
from typing import Any

import ml_collections

from delt_jax.defaults import get_base as get_base
from delt_jax.errors import InputError


def parse_arg(arg: str | None, **defaults: Any) -> ml_collections.ConfigDict:
    """Reads the part of `--config=file.py:ipc=10,smoke` after the colon.

    Args:
      arg: comma-separated `name=value`, or a bare `name` for True.
      **defaults: the names there are, with their defaults; a value gets the type of its default.

    Raises:
      InputError: for a name that is not among them or a value of another type.
    """
    values = ml_collections.ConfigDict(defaults)
    for item in filter(None, (arg or "").split(",")):
        name, equals, text = item.partition("=")
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, 1) or sorted(defaults)
            raise InputError(f"config argument: got {name!r}, expected {' or '.join(near)}")
        values[name] = _parse(name, text if equals else "true", type(defaults[name]))
    return values


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
