"""The one exception that stands for a mistake a user can mend."""


class InputError(ValueError):
    """Wrong input: one line that names the thing, what was found and what was expected.

    `delt_jax.main` prints it without a traceback and exits with status 2.
    """
