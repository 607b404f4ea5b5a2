"""The exceptions that end a run in one line."""


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
