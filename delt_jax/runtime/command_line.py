"""Flags and configs as a command line gives them, and programs run by it; a mistake is one line."""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from delt_jax.errors import InputError, Interrupted

MISTAKE, INTERRUPTED, CTRL_C = 2, 75, 130  # exit statuses; 75 is EX_TEMPFAIL: try it again


def run_program(
    main: Callable[[list[str]], Any],
    parse: Callable[[Sequence[str]], list[str]],
    on_mistake: Callable[[str], Any] = lambda message: None,
) -> None:
    """Runs `main` with the words that `parse` leaves of the command line, and exits.

    Args:
      main: returns the exit status, or None for 0.
      parse: see `parse_flags`.
      on_mistake: called with the text of an `InputError`, after it has been printed.
    """
    logging.set_verbosity(logging.WARNING)
    try:
        app.run(main, flags_parser=parse)
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
    except flags.Error as error:  # an error in get_config() comes as the text of its traceback
        last = str(error).strip().splitlines()[-1]
        raise InputError(last.rpartition("InputError: ")[2]) from error
    except InputError:
        raise
    except (ValueError, TypeError, SyntaxError, ArithmeticError, RecursionError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"command line: {reason[-1]}") from error
    except (AttributeError, KeyError) as error:
        raise InputError(f"--config: no option {' '.join(str(error.args[0]).split())}") from error


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
    config = values["config"].value
    if not isinstance(config, ConfigDict):
        raise InputError("--config: cannot read that file; expected one like configs/*.py")
    return config
