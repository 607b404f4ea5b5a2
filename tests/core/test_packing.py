"""Packs: each class batch draws the same, whatever it is packed with."""

import jax
import numpy as np

from delt_jax.core import packing
from delt_jax.core.schedule import Schedule, class_batches


def test_each_class_batch_has_a_random_stream_of_its_own_in_any_pack():
    batches = class_batches(Schedule(2, 2, 1), 5, 2)
    base = jax.random.key(7)
    expected = [jax.random.key_data(jax.random.fold_in(base, number)) for number in range(5)]
    assert len({tuple(np.asarray(key).tolist()) for key in expected}) == 5
    for width in (1, 2, 5):
        found = {}
        for pack in packing.make_packs(batches, width):
            keys = jax.random.key_data(pack.keys(base))
            found |= dict(zip(pack.indices, np.asarray(keys)))
        assert sorted(found) == [0, 1, 2, 3, 4]
        for number, key in found.items():
            np.testing.assert_array_equal(key, expected[number])
