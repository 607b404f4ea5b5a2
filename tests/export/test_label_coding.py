"""Logits that are kept in fewer bytes."""

import numpy as np
import pytest
from scipy.special import softmax

from delt_jax.export.label_coding import LabelCoding, decode, smallest_unsigned


def logits(n=40, k=7, scale=3.0):
    return np.random.default_rng(0).normal(0, scale, (n, k)).astype(np.float32)


def kept_bytes(tensors):
    return sum(array.nbytes for array in tensors.values())


def test_float16_is_what_was_given():
    given = logits().astype(np.float16)
    tensors = LabelCoding().encode(given)
    assert list(tensors) == ["logits"]
    np.testing.assert_array_equal(decode(tensors, 7), given)
    assert decode(tensors, 7).dtype == np.float16


def test_int8_by_hand():
    tensors = LabelCoding(dtype="int8").encode(np.array([[1.0, 128.0, 255.0]]))
    assert tensors["logits"].tolist() == [[-127, 0, 127]] and tensors["scales"].tolist() == [1.0]
    assert tensors["logits"].dtype == np.int8
    np.testing.assert_array_equal(decode(tensors, 3), [[-127, 0, 127]])  # 128 less, all of them


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 3.0, 500.0])
def test_int8_errs_by_half_a_step_at_most(scale):
    given = logits(scale=scale)
    tensors = LabelCoding(dtype="int8").encode(given)
    middle = (given.min(axis=1) + given.max(axis=1))[:, None] / 2
    error = np.abs(decode(tensors, 7) - (given - middle))
    assert (error <= tensors["scales"].astype(np.float32)[:, None] * 0.5001).all()
    ranges = np.ptp(given, axis=1)
    if scale >= 1:  # whose scales float16 holds to eleven bits
        assert (error.max(axis=1) <= ranges / 508 * 1.002).all()
    shares = np.abs(softmax(decode(tensors, 7), axis=1) - softmax(given, axis=1))
    assert (shares.max(axis=1) <= ranges / 508 * 0.51).all()  # a softmax moves by half as much


def test_equal_logits_stay_equal():
    tensors = LabelCoding(dtype="int8").encode(np.full((1, 3), 5.0))
    np.testing.assert_array_equal(decode(tensors, 3), np.zeros((1, 3)))


def test_top_k_by_hand():
    tensors = LabelCoding(top_k=2, temperature=1.0).encode(np.log([[1.0, 8.0, 3.0, 4.0]]))
    assert tensors["indices"].tolist() == [[1, 3]] and tensors["indices"].dtype == np.uint8
    # What is left, 1 and 3, share their sum.
    np.testing.assert_allclose(np.exp(decode(tensors, 4)), [[2, 8, 2, 4]], rtol=2e-3)
    assert decode(tensors, 4).dtype == np.float32


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_top_k_keeps_the_shares_of_the_largest(dtype, temperature):
    given = logits(k=50)
    tensors = LabelCoding(5, dtype, temperature).encode(given)
    found = softmax(decode(tensors, 50) / temperature, axis=1)
    expected = softmax(given / temperature, axis=1)
    top = np.argsort(-given, axis=1)[:, :5]
    tolerance = {"float16": 4e-3, "int8": 0.02}[dtype] / temperature
    got, wanted = (np.take_along_axis(array, top, axis=1) for array in (found, expected))
    assert np.abs(got - wanted).max() <= tolerance
    rest = 1 - got.sum(axis=1)
    np.testing.assert_allclose(rest, 1 - wanted.sum(axis=1), atol=tolerance)
    np.testing.assert_array_equal(decode(tensors, 50).argmax(axis=1), given.argmax(axis=1))


def test_all_but_one_are_all():
    given = logits()
    tensors = LabelCoding(top_k=6, temperature=3.0).encode(given)
    np.testing.assert_allclose(decode(tensors, 7), given, atol=6e-3)


def test_axes_of_epochs_are_kept():
    coding = LabelCoding(2, "int8")
    one = coding.encode(logits())
    both = {name: np.stack([array, array]) for name, array in one.items()}
    np.testing.assert_array_equal(decode(both, 7), np.stack([decode(one, 7)] * 2))


@pytest.mark.parametrize("classes", [10, 300])
@pytest.mark.parametrize("top_k", [0, 3])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_bytes_are_those_of_the_tensors(classes, top_k, dtype):
    coding = LabelCoding(top_k, dtype)
    assert 4 * coding.image_bytes(classes) == kept_bytes(coding.encode(logits(4, classes)))


def test_smallest_integers():
    found = [smallest_unsigned(n) for n in (255, 256, 65535, 65536)]
    assert found == [np.uint8, np.uint16, np.uint16, np.uint32]
