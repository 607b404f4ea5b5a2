"""The exceptions that end a run in one line, and what their lines are made of."""

import difflib
from collections.abc import Iterable


def in_one_line(text: str) -> str:
    """A text as a terminal and a log can take it: what is not printable becomes its escape.

    Names of files and classes are other people's; they may hold line ends, escape sequences that a
    terminal obeys, marks that turn the direction of writing, and halves of characters.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class InputError(ValueError):
    """Wrong input: one line that names the thing, what was found and what was expected.

    `delt_jax.main` prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: object = ""):
        super().__init__(in_one_line(str(message)))


class Interrupted(BaseException):
    """A run that is ended from outside: what is done is kept, and the same command goes on.

    Like `KeyboardInterrupt` it is no `Exception`: what handles errors is not to handle it.

    `delt_jax.main` prints it without a traceback and exits with status 75 (EX_TEMPFAIL of
    sysexits.h: try again), which launchers can tell from a mistake.
    """


def listed(words: Iterable[str], got: object) -> str:
    """All words, for an error, and the one that was probably meant: "a, b (did you mean 'a'?)"."""
    words = list(words)
    return ", ".join(word or "''" for word in words) + did_you_mean(got, words)


def did_you_mean(got: object, words: Iterable[str]) -> str:
    """The nearest of some words, as the end of an error; "" where none is near."""
    near = difflib.get_close_matches(got.lower(), list(words), 1) if isinstance(got, str) else []
    return f" (did you mean {near[0]!r}?)" if near else ""
