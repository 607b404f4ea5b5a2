"""The default of every option, as it is published or promised."""

import pathlib

from delt_jax.defaults import get_base

FILE = pathlib.Path(__file__).with_name("defaults.txt")


def flat(options, prefix=""):
    """Lines `name = value` of all options below a prefix, sorted in each group."""
    for name in sorted(options.keys()):
        value = options[name]
        if hasattr(value, "keys"):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {value!r}"


def test_no_default_changes_by_accident():
    assert list(flat(get_base())) == FILE.read_text().splitlines()
