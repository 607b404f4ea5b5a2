"""The command line, fed with words that nobody should write."""

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import STRANGE_NAMES, only_clear_errors

from delt_jax.runtime.command_line import resolve_config
from delt_jax.stages import options, preflight

ROOT = pathlib.Path(__file__).parents[2]
LITERALS = (
    *("1", "-1", "0", "0.5", "nan", "inf", "-inf", "1e400", "9" * 30, "0x10", "1_000", "True"),
    *("None", "()", "(1,)", "('a','b')", "[1, 2]", "{1: 2}", "(((", "'", '"', "1,2", "'a', 'b'"),
    *("__import__('os').system('touch x')", "lambda: 0", "=", ",", ":", "--", "\\", "medum"),
)
words = st.one_of(st.sampled_from(LITERALS), st.sampled_from(STRANGE_NAMES), st.text(max_size=12))


@st.composite
def near(draw, names):
    """One of some names, often with a slip in it."""
    name = draw(st.sampled_from(sorted(names)))
    if draw(st.booleans()):
        return name
    place = draw(st.integers(0, len(name)))
    return name[:place] + draw(st.sampled_from(("", ".", "x", "_", "[0]", "é"))) + name[place + 1 :]


arguments = st.lists(
    st.tuples(near(("ipc", "method", "smoke")), st.none() | words).map(
        lambda pair: pair[0] if pair[1] is None else f"{pair[0]}={pair[1]}"
    ),
    max_size=3,
)
overrides = st.lists(
    st.tuples(st.sampled_from(("--", "--", "-", "--no")), near(options.OPTIONS), words).map(
        lambda parts: f"{parts[0]}config.{parts[1]}={parts[2]}"
    ),
    max_size=3,
)


@pytest.fixture
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def names_here():
    """Of the clone, but for those of tools, which may write beside the tests."""
    return {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}


@pytest.mark.usefixtures("at_the_root")
@given(arguments, overrides)
def test_words_and_values(given_arguments, given_overrides):
    before = names_here()
    with only_clear_errors():
        config = resolve_config(
            [f"--config=configs/digits.py:{','.join(given_arguments)}", *given_overrides]
        )
        preflight.check_options(config)
    assert names_here() == before


@pytest.mark.usefixtures("at_the_root")
@given(near(("configs/digits.py", "configs/cifar10.py", "configs", "configs/__init__.py")))
def test_names_of_files(name):
    with only_clear_errors():
        resolve_config([f"--config={name}"])
