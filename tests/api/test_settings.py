"""Options of the API: those of the command line, with the same defaults."""

import pytest

from configs import base
from delt_jax.api.settings import SECTIONS, make_config, options
from delt_jax.errors import InputError


def flat(section):
    return {name: value for name, value in section.items() if not hasattr(value, "items")}


def test_options_and_defaults_are_the_command_line_s():
    c = base.get_base()
    assert options("train_teacher") == flat(c.teacher.squeeze)
    assert options("rank").items() <= flat(c.select).items()
    assert options("evaluate").items() <= flat(c.evaluate).items()
    both = flat(c.select) | flat(c.distilled) | flat(c.synthesis)
    assert options("synthesize").items() <= both.items()
    assert (options("synthesize")["iterations"], options("synthesize")["quality"]) == (4000, 75)
    assert options("evaluate")["epochs"] == 300


def test_without_options_it_is_the_base_config():
    for function in SECTIONS:
        assert make_config(function, {}).to_dict() == base.get_base().to_dict()


def test_an_option_goes_where_the_function_looks_first():
    given = {"statistics": "imagenet", "quality": 90, "mode": "top", "flip": 0}
    config = make_config("synthesize", given, ipc=3, seed=None, data__name="birds")
    assert (config.synthesis.statistics, config.select.statistics) == ("imagenet", "teacher")
    assert (config.distilled.quality, config.select.mode, config.synthesis.flip) == (90, "top", 0)
    assert (config.ipc, config.seed, config.data.name) == (3, 0, "birds")
    assert make_config("evaluate", {"seeds": [1, 2]}).evaluate.seeds == (1, 2)


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        ("synthesize", {"iteration": 3}, "the option 'iteration', expected iterations"),
        ("synthesize", {"iterations": "many"}, "synthesis.iterations: got 'many', expected int"),
        ("synthesize", {"early_late": 1}, "synthesis.early_late: got 1, expected bool"),
        ("synthesize", {"iterations": True}, "synthesis.iterations: got True, expected int"),
        ("synthesize", {"flip": 2.0}, "synthesis.flip: got 2.0, expected a number from 0 to 1"),
        ("synthesize", {"mode": "hard"}, "select.mode: got 'hard', expected one of"),
        ("evaluate", {"epochs": 0}, "evaluate.epochs: got 0, expected a whole number from 1"),
        ("evaluate", {"sets": ("random",)}, "the option 'sets', expected"),
        ("rank", {"factor": 2}, "the option 'factor', expected"),
    ],
)
def test_a_wrong_option_is_named(function, given, message):
    with pytest.raises(InputError, match=message):
        make_config(function, given)


def test_another_function_has_no_options():
    with pytest.raises(InputError, match="options of 'distil': expected one of train_teacher"):
        options("distil")
