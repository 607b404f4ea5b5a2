"""The exceptions that end a run in one line."""


class InputError(ValueError):
    """Wrong input: one line that names the thing, what was found and what was expected.

    `delt_jax.main` prints it without a traceback and exits with status 2.
    """


class Interrupted(RuntimeError):  # noqa: N818 (it is no error of the run)
    """A run that is ended from outside: what is done is kept, and the same command goes on.

    `delt_jax.main` prints it without a traceback and exits with status 75 (EX_TEMPFAIL of
    sysexits.h: try again), which launchers can tell from a mistake.
    """
