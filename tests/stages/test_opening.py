"""A config's data set as the stages open it."""

import numpy as np
import pytest
from tiny_run import make_config

from delt_jax.stages.opening import describe, open_split


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_part_of_each_class_is_evenly_spaced_and_keeps_its_names(tmp_path, split):
    config = make_config(tmp_path)
    whole = open_split(config, describe(config), split)
    config.data.images_per_class = 4
    part = open_split(config, describe(config), split)
    assert np.bincount(part.labels).tolist() == [4, 4, 4]
    assert part.class_names == whole.class_names
    assert set(part.names) < set(whole.names)
    for label in range(3):
        members = [name for name, k in zip(whole.names, whole.labels) if k == label]
        count = len(members)
        chosen = [members[place * count // 4] for place in range(4)]
        assert [name for name, k in zip(part.names, part.labels) if k == label] == chosen
    index = whole.names.index(part.names[5])
    np.testing.assert_array_equal(part[5], whole[index])


def test_a_small_class_is_taken_whole(tmp_path):
    config = make_config(tmp_path)
    config.data.images_per_class = 10_000
    spec = describe(config)
    assert (
        open_split(config, spec, "train").names
        == open_split(make_config(tmp_path), spec, "train").names
    )
    assert describe(config).num_classes == 3
