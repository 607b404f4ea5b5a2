"""The exceptions that end a run in one line."""


class InputError(ValueError):
    """Wrong input: one line that names the thing, what was found and what was expected.

    `delt_jax.main` prints it without a traceback and exits with status 2.
    """


class Interrupted(BaseException):
    """A run that is ended from outside: what is done is kept, and the same command goes on.

    Like `KeyboardInterrupt` it is no `Exception`: what handles errors is not to handle it.

    `delt_jax.main` prints it without a traceback and exits with status 75 (EX_TEMPFAIL of
    sysexits.h: try again), which launchers can tell from a mistake.
    """
