"""Classes matched by name."""

import numpy as np
import pytest

from delt_jax.data.class_order import check_order, in_order_of, text_of
from delt_jax.errors import InputError


@pytest.mark.parametrize(
    ("found", "expected", "labels"),
    [
        (["dog", "cat", "eel"], ["cat", "dog", "eel"], [1, 0, 2, 1]),
        (["dog", "cat", "eel"], ["owl", "cat", "eel", "dog"], [3, 1, 2, 3]),
        (["3", "1", "2", "0"], ["0", "1", "2", "3"], [3, 1, 2, 3]),  # numbers are names here
        (["0", "1", "2"], ["cat", "dog", "eel"], [0, 1, 2, 0]),  # and say nothing here
        (["cat", "dog", "eel"], ["0", "1", "2"], [0, 1, 2, 0]),
        (["0", "1", "2"], ["1", "2", "3"], [0, 1, 2, 0]),
        (["caf\u00e9", "b", "c"], ["b", "c", "cafe\u0301"], [2, 0, 1, 2]),
        (["crane", "crane", "b"], ["crane", "crane", "b"], [0, 1, 2, 0]),
        (["dog", "cat", "eel", "yak"], ["eel", "cat", "dog"], [2, 1, 0, 2]),  # no image of a yak
    ],
)
def test_labels_are_those_of_the_same_names(found, expected, labels):
    np.testing.assert_array_equal(in_order_of(np.array([0, 1, 2, 0]), found, expected, "x"), labels)


@pytest.mark.parametrize(
    ("found", "expected", "message"),
    [
        (["dog", "cat"], ["cat", "cow"], "test split: class 0 is 'dog', which is none of the 2"),
        (["a", "b", "a"], ["b", "a", "a"], "test split: two classes are called 'a' and the order"),
        (["b", "a"], ["b", "a", "a"], "test split: two classes are called 'a' and the order"),
    ],
)
def test_names_that_do_not_match_are_refused(found, expected, message):
    with pytest.raises(InputError, match=message):
        in_order_of(np.array([0, 1]), found, expected, "test split")


def test_another_order_is_refused_where_labels_cannot_be_changed():
    check_order(["a", "b"], ["a", "b"], "one", "two")
    check_order([], ["a", "b"], "one", "two")
    check_order(["0", "1"], ["a", "b"], "one", "two")
    check_order(["\u00e9"], ["e\u0301"], "one", "two")
    with pytest.raises(
        InputError, match="class 1 is 'c' for one and 'b' for two; expected the sam"
    ):
        check_order(["a", "c", "b"], ["a", "b", "c"], "one", "two")
    with pytest.raises(InputError, match="class 0 is '1' for one and '0' for two"):
        check_order(["1", "0"], ["0", "1"], "one", "two")
    with pytest.raises(InputError, match="class 1 is None for one and 'b' for two"):
        check_order(["a"], ["a", "b"], "one", "two")


def test_bytes_are_text():
    assert text_of("cafe\u0301".encode()) == "caf\u00e9"
    with pytest.raises(InputError, match="expected text in UTF-8"):
        text_of(b"caf\xe9")
