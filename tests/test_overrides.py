"""Options of a command line while a config's file is read, and what they change of a method."""

import pytest

from configs import base, cifar10
from delt_jax import overrides
from delt_jax.errors import InputError


def test_none_are_in_force_outside_of_a_command_line():
    assert overrides.current() == {}
    with overrides.in_force({"ipc": 3}):
        with overrides.in_force({"seed": 1}):
            assert overrides.current() == {"seed": 1}
        assert overrides.current() == {"ipc": 3}
    assert overrides.current() == {}


def test_a_config_in_python_is_that_of_the_command_line():
    c = cifar10.get_config("ipc=1,method=cda")
    assert (c.method, c.ipc, c.synthesis.early_late, c.method_changes) == ("cda", 1, False, ())
    c.synthesis.iterations = 50  # options can still be set
    with overrides.in_force({"ipc": 1, "method": "cda", "synthesis.iterations": 50}):
        given = cifar10.get_config()
    assert given.synthesis.to_dict() == c.synthesis.to_dict()
    assert given.method_changes == ("synthesis.iterations=50",)


def test_an_option_that_does_not_fit_is_named():
    c = base.get_base()
    with (
        overrides.in_force({"synthesis.nothing": 3}),
        pytest.raises(InputError, match=r"^synthesis\.nothing: no such option in the config$"),
    ):
        overrides.apply(c)
    with (
        overrides.in_force({"synthesis.jitter": "wide"}),
        pytest.raises(InputError, match=r"^synthesis\.jitter: got 'wide', expected int$"),
    ):
        overrides.apply(c)


def test_changes_are_those_of_the_method_s_own_options():
    plain, c = base.get_base(), base.get_base()
    c.ipc, c.seed, c.evaluate.epochs, c.select.ranking = 3, 4, 5, "ranking.csv"
    c.synthesis.steps_per_call = 7
    assert overrides.changes(plain, c) == ()
    c.select.mode, c.synthesis.beta1 = "top", 0.25
    assert overrides.changes(plain, c) == ("select.mode=top", "synthesis.beta1=0.25")


def test_a_name_says_what_was_changed():
    assert overrides.named("rded", []) == "rded"
    assert overrides.named("rded", ["select.mode=top", "a=1"]) == "rded (select.mode=top, a=1)"
    assert overrides.named("rded", None) == "rded"  # of a manifest that does not say
