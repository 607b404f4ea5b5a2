"""The exceptions that end a run in one line, and what their lines are made of."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong input: one line that names the thing, what was found and what was expected.

    `delt_jax.main` prints it without a traceback and exits with status 2.
    """


class Interrupted(RuntimeError):  # noqa: N818 (it is no error of the run)
    """A run that is ended from outside: what is done is kept, and the same command goes on.

    `delt_jax.main` prints it without a traceback and exits with status 75 (EX_TEMPFAIL of
    sysexits.h: try again), which launchers can tell from a mistake.
    """


def listed(words: Iterable[str], got: object) -> str:
    """All words, for an error, and the one that was probably meant: "a, b (did you mean 'a'?)"."""
    words = list(words)
    near = difflib.get_close_matches(str(got), words, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ", ".join(word or "''" for word in words) + hint
