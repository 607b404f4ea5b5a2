"""Words of a command line that are wrong, and the line that each is answered with."""

import pathlib

import pytest

from delt_jax.errors import InputError
from delt_jax.runtime.command_line import resolve_config

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [DIGITS, "--config.synthesis.iteratons=5"],
            "synthesis.iteratons: no such option; is it synthesis.iterations?",
        ),
        (
            [DIGITS, "--config.sinthesis.jitter=1"],
            "sinthesis.jitter: no such option; is it synthesis.jitter?",
        ),
        ([DIGITS, "--config.qqq=1"], "qqq: no such option; expected one of the defaults"),
        ([DIGITS, "--config.ipc=many"], "ipc: got 'many', expected a whole number"),
        ([DIGITS, "--config.ipc=2.5"], "ipc: got '2.5', expected a whole number"),
        ([DIGITS, "--config.synthesis.flip=x"], "synthesis.flip: got 'x', expected a number"),
        (
            [DIGITS, "--config.synthesis.sliced=maybe"],
            "synthesis.sliced: got 'maybe', expected true or false",
        ),
        (
            [DIGITS, "--config.synthesis=3"],
            "synthesis: got '3', expected a value for one of its options: "
            "--config.synthesis.NAME=VALUE",
        ),
        ([DIGITS, "--nothing"], "Unknown command line flag 'nothing'"),
        (
            [DIGITS, "--noconfig.synthesis.sliced=1"],
            "command line: --noconfig.synthesis.sliced=1 does not take an argument",
        ),
        (
            [DIGITS, "--config.seed[0]=1"],
            "command line: <class 'int'> does not support integer indexing [0]]. Attempting to "
            "lookup: seed[0]",
        ),
        (["--config=configs/cifar10.py:icp=10"], "config argument: got 'icp', expected ipc"),
        (["--config=configs/cifar10.py:ipc=ten"], "config argument ipc: got 'ten', expected int"),
        *(
            (
                words,
                "--config: got 'configs/cifar1.py', which cannot be read; expected configs/*.py "
                "(did you mean configs/cifar10.py?)",
            )
            for words in (
                ["--config=configs/cifar1.py:ipc=10"],
                ["--config", "configs/cifar1.py:ipc=10"],
                ["-config=configs/cifar1.py"],
                ["-config", "configs/cifar1.py"],
            )
        ),
    ],
)
def test_a_mistake_is_answered_with_what_is_expected(words, message):
    with pytest.raises(InputError) as caught:
        resolve_config(words)
    assert str(caught.value) == message
