"""Flags and configs as a command line gives them, and programs run by it; a mistake is one line."""

import difflib
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from delt_jax import defaults, overrides
from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import faults, interruption, terminal
from delt_jax.runtime.interruption import CTRL_C, INTERRUPTED
from delt_jax.stage import flatten

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


def parse_flags(argv: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Returns `values(argv)`; ml_collections' account of a mistake is brought down to its point."""
    try:
        return values(argv)
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


class ConfigFlag:
    """The flags `--config=FILE:ARGUMENTS` and `--config.a.b=value`, in every spelling of absl's.

    The file is read once all flags are parsed, with the options in force (see
    `delt_jax.overrides`): in which order they are written makes no difference.

    Args:
      values: holds the flags of the program.
    """

    def __init__(self, values: flags.FlagValues = flags.FLAGS):
        self._values = values
        self._words: list[str] = []  # where ml_collections looks for options
        config_flags.DEFINE_config_file(
            "config",
            None,
            "A file of configs/, with :arguments; --config.a.b=value sets an option.",
            flag_values=values,
            sys_argv=self._words,
        )
        values["config"].parser = _Defaults()

    def parse(self, argv: Sequence[str]) -> list[str]:
        """Returns what `parse_flags` leaves of the words; raises `InputError` as it does."""
        try:
            words = self._values.read_flags_from_files(list(argv[1:]), force_gnu=False)
        except flags.Error as error:
            raise InputError(f"command line: {error}") from error
        self._words[:] = [*argv[:1], *_file_first(words)]
        return parse_flags(self._words, self._values)

    @property
    def file(self) -> str:
        """`FILE:ARGUMENTS`, or "" where none is given."""
        return config_flags.get_config_filename(self._values["config"])

    @property
    def options(self) -> dict[str, Any]:
        """The options that are given, by dotted path."""
        found = config_flags.get_override_values(self._values["config"])
        return flatten(
            {k: v.to_dict() if isinstance(v, ConfigDict) else v for k, v in found.items()}
        )

    def resolve(self) -> ConfigDict:
        """Returns the config; raises `InputError` as `read_config` does."""
        if not self.file:
            raise InputError(
                "--config: got none, expected --config=FILE, such as configs/digits.py"
            )
        return read_config(self.file, self.options)


class _Defaults(flags.ArgumentParser):
    """Gives the options' types to ml_collections, in place of a file that is read later."""

    def parse(self, argument: Any) -> ConfigDict:
        """Returns the defaults."""
        del argument
        return defaults.get_base()

    def flag_type(self) -> str:
        """Returns what `--help` calls the value."""
        return "FILE:ARGUMENTS"


def _file_first(words: Sequence[str]) -> list[str]:
    """Returns the words with the last `--config` in front, where ml_collections wants it."""
    file, rest = "", []
    left = iter(words)
    for word in left:
        if word == "--":
            rest += [word, *left]
            break
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            file = value if equals else next(left, "")
        else:
            rest.append(word)
    return [f"--config={file}", *rest]


def resolve_config(arguments: Sequence[str]) -> ConfigDict:
    """Returns the config that `delt_jax.main` makes of `--config=...` and `--config.a.b=...`.

    Raises:
      InputError: for a file, an argument, an option or a method that there is not, and for what is
        no flag.
    """
    import_from_here()
    flag = ConfigFlag(flags.FlagValues())
    if left := flag.parse(["", *arguments])[1:]:
        raise InputError(f"arguments: got {left[0]!r}, expected --config=... and --config.a.b=...")
    return flag.resolve()


def read_config(file: str, options: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a file with options set.

    Args:
      file: `FILE:ARGUMENTS`; ARGUMENTS are given to the file's `get_config`.
      options: values by dotted path, which win over the file and its method.

    Raises:
      InputError: where the file cannot be read, or for an argument, an option or a method that
        there is not.
    """
    if "method_changes" in options:
        raise InputError("method_changes: filled in here; expected the options themselves")
    path, colon, argument = file.partition(":")
    with overrides.in_force(options):
        config: Any = _get_config(path, *([argument] if colon else []))
        asked = options.get("method", config.method)
        if config.method != asked:
            raise InputError(
                f"method: got {asked!r}, and {path} applies {config.method!r} whatever is asked "
                "for; expected a file whose get_config ends with presets.choose(c, arg.method)"
            )
        plain = config.copy_and_resolve_references()
        overrides.apply(config)
    changed = (*config.method_changes, *overrides.changes(plain, config))
    config.method_changes = tuple(dict.fromkeys(changed))
    return config.lock()


def _get_config(path: str, *arguments: str) -> ConfigDict:
    """Returns what `get_config` of a file returns."""
    try:
        file = pathlib.Path(path).expanduser()
        if not file.is_file():
            raise FileNotFoundError
    except (OSError, ValueError, RuntimeError):
        known = sorted(one.as_posix() for one in pathlib.Path().glob("configs/[!_]*.py"))
        near = difflib.get_close_matches(path, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"--config: got {path!r}, which cannot be read; expected configs/*.py{hint}"
        ) from None
    try:
        config = runpy.run_path(str(file))["get_config"](*arguments)
    except InputError:
        raise
    except (*_MISTAKES, AttributeError, ImportError, NameError) as error:
        reason = (str(error).strip().splitlines() or [""])[-1]
        raise InputError(f"--config: {path}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict) or "method_changes" not in config:
        raise InputError(
            f"--config: get_config of {path} returns {type(config).__name__}; expected a "
            "ConfigDict that begins as configs.base.get_base()"
        )
    return config
