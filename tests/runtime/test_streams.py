"""Random streams: named, independent of one another, the same everywhere."""

import jax

from delt_jax.runtime.streams import numpy_seed, stream


def bits(key):
    return jax.random.key_data(key).tolist()


def test_streams_are_told_apart_by_seed_name_and_number():
    streams = [
        stream(0, "synthesis"),
        stream(1, "synthesis"),
        stream(0, "evaluate"),
        stream(0, "synthesis", 0),
        stream(0, "synthesis", 1),
    ]
    assert len({tuple(bits(key)) for key in streams}) == len(streams)


def test_a_stream_never_changes():
    # A literal: results of published runs depend on it.
    assert bits(stream(0, "synthesis", 3)) == [2382758776, 1021306918]
    assert numpy_seed(5, "class_rounds") == [5, 4112750572]
