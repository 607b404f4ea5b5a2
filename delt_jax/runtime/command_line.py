"""Flags and configs as a command line gives them, and programs run by it; a mistake is one line."""

import difflib
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from delt_jax import defaults
from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import faults, interruption, terminal
from delt_jax.runtime.interruption import CTRL_C, INTERRUPTED

MISTAKE = 2  # exit status; those of runs that are to be started again are CTRL_C and INTERRUPTED


def run_program(
    main: Callable[[list[str]], Any],
    parse: Callable[[Sequence[str]], list[str]],
    on_mistake: Callable[[str], Any] = lambda message: None,
) -> None:
    """Runs `main` with the words that `parse` leaves of the command line, and exits.

    Signals end it in seconds (see `interruption`), a fault of a disk in a line (see `faults`), and
    the loss of its terminal costs it nothing but the words that nobody reads.

    Args:
      main: returns the exit status, or None for 0.
      parse: see `parse_flags`.
      on_mistake: called with the text of an `InputError`, after it has been printed.
    """
    logging.set_verbosity(logging.WARNING)
    with terminal.lasting_output(), interruption.heeded():
        _run(main, parse, on_mistake)


def _run(
    main: Callable[[list[str]], Any],
    parse: Callable[[Sequence[str]], list[str]],
    on_mistake: Callable[[str], Any],
) -> None:
    try:
        try:
            app.run(main, flags_parser=parse)
        except Exception as error:
            fault = faults.explained(error)
            # A mistake has words of its own, but where a disk is full it is none, and passes.
            if fault and (isinstance(fault, Interrupted) or not isinstance(error, InputError)):
                raise fault from error
            raise
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        on_mistake(str(error))
        sys.exit(MISTAKE)
    except Interrupted as error:
        print(f"interrupted: {error}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        sys.exit(CTRL_C)


def method_as_argument(argv: Sequence[str]) -> list[str]:
    """`--config.method=NAME` as the argument `method=NAME` of the config's file.

    A method is a set of overrides, so it is applied before those of the command line.
    """
    chosen = [word.partition("=")[2] for word in argv if word.startswith("--config.method=")]
    rest = [word for word in argv if not word.startswith("--config.method=")]
    for place, word in enumerate(rest):
        if chosen and word.startswith("--config="):
            rest[place] = f"{word}{',' if ':' in word else ':'}method={chosen[-1]}"
    return rest


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """`values(argv)`, with ml_collections' account of a mistake brought down to its point."""
    try:
        return values(method_as_argument(argv))
    except flags.Error as error:
        raise InputError(_reason(str(error))) from error
    except InputError:
        raise
    except (AttributeError, KeyError) as error:
        raise InputError(_no_option(str(error.args[0]), argv)) from error
    except _MISTAKES as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"command line: {reason[-1]}") from error


# What absl, ml_collections and `ast.literal_eval` raise for words that they cannot read.
_MISTAKES = (
    *(ValueError, TypeError, LookupError, SyntaxError, ArithmeticError),
    *(RecursionError, MemoryError),  # of a thousand brackets
)
# What the parsers of numbers and flags say, and what they mean.
_VALUE = re.compile(r"flag --config\.([^=\s]+)=(.*?): (.*)", re.DOTALL)
_MEANINGS = (
    ("invalid literal for int()", "a whole number"),
    ("could not convert string to float", "a number"),
    ("Non-boolean argument", "true or false"),
    ("as a ConfigDict", "a value for one of its options: --config.%s.NAME=VALUE"),
)


def _reason(text: str) -> str:
    """The point of an error of absl's or ml_collections', whose text may be a traceback."""
    if match := _VALUE.fullmatch(text):
        path, value, reason = match.groups()
        for said, meant in _MEANINGS:
            if said in reason:
                return f"{path}: got {value[:80]!r}, expected {meant.replace('%s', path)}"
    last = text.strip().splitlines()[-1]
    return last.rpartition("InputError: ")[2].removesuffix("\\n")


def _no_option(text: str, argv: Sequence[str]) -> str:
    """An option that there is not, by its dotted path, and the nearest one."""
    names = re.findall(r"\w+", text.replace("\\n", " "))
    name = names[0] if names else text
    for word in argv:
        path = word.lstrip("-").partition("=")[0].removeprefix("config.")
        if name in path.split("."):
            near = difflib.get_close_matches(path, _paths(defaults.get_base()), 1)
            known = f"is it {near[0]}?" if near else "expected one of the defaults"
            return f"{path}: no such option; {known}"
    return f"--config: no option {' '.join(text.split())}"


def _paths(config: ConfigDict, before: str = "") -> list[str]:
    """Dotted paths of sections and options."""
    found = []
    for name, value in config.items():
        found.append(f"{before}{name}")
        if isinstance(value, ConfigDict):
            found += _paths(value, f"{before}{name}.")
    return found


def import_from_here() -> None:
    """Lets the files of configs/ import one another, wherever the interpreter was started from."""
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def resolve_config(arguments: Sequence[str]) -> ConfigDict:
    """The config that `delt_jax.main` makes of `--config=...` and `--config.a.b=...`.

    Raises:
      InputError: for a file, an argument or an option that there is not.
    """
    argv = ["", *arguments]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    import_from_here()
    parse_flags(argv, values)
    return readable(values["config"].value, argv)


def readable(config: Any, argv: Sequence[str]) -> ConfigDict:
    """The config of a command line; raises `InputError` where its file cannot be read."""
    if isinstance(config, ConfigDict):
        return config
    given = [""]
    for word, after in zip(argv, [*argv[1:], ""]):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            given.append(value if equals else after)
    file = given[-1].partition(":")[0]
    known = sorted(path.as_posix() for path in pathlib.Path().glob("configs/[!_]*.py"))
    near = difflib.get_close_matches(file, known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise InputError(f"--config: got {file!r}, which cannot be read; expected configs/*.py{hint}")
