"""What an error says, it says in one line that a terminal and a log can take."""

import pickle

import pytest

from delt_jax.errors import InputError, in_one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a plain line, é 图", "a plain line, é 图"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b[2J cleared", r"\x1b[2J cleared"),
        ("gnp.\u202egpj", r"gnp.\u202egpj"),
        ("half \ud800", r"half \ud800"),
        ("nul\0", r"nul\x00"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, line):
    assert in_one_line(text) == line
    assert str(InputError(text)) == line


def test_an_error_comes_whole_out_of_another_process():
    error = pickle.loads(pickle.dumps(InputError("x\ny")))
    assert str(error) == r"x\ny"
