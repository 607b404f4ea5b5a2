"""Orders that PyTorch's sampler draws."""

import itertools

import numpy as np

from delt_jax.core.torch_order import sampler_orders


def test_literal_orders():
    """As printed by PyTorch 2.13."""
    found = [order.tolist() for order in itertools.islice(sampler_orders(42, 5), 3)]
    assert found == [[2, 4, 3, 0, 1], [0, 2, 3, 1, 4], [0, 4, 2, 3, 1]]


def test_every_epoch_shows_every_image_once():
    orders = list(itertools.islice(sampler_orders(7, 100), 3))
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
        assert order.dtype == np.int32
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    assert next(sampler_orders(7, 1)).tolist() == [0]
