"""Scores, and the order in which a class is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.core.augment.views import Statistics
from delt_jax.core.ranking import (
    MODES,
    medium_walk,
    mosaic_ranks,
    order,
    sample,
    true_class_probability,
    view_scores,
)
from delt_jax.errors import InputError


def test_true_class_probability(x64):
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]))
    labels = jnp.array([2, 1])
    np.testing.assert_allclose(true_class_probability(logits, labels), [0.5, 0.2], rtol=1e-12)
    shifted = true_class_probability(logits + 1000.0, labels)
    np.testing.assert_allclose(shifted, [0.5, 0.2], rtol=1e-12)
    jitted = jax.jit(true_class_probability)(logits, labels)
    np.testing.assert_allclose(jitted, [0.5, 0.2], rtol=1e-12)
    assert true_class_probability(logits.astype(jnp.float32), labels).dtype == jnp.float32


@pytest.mark.parametrize(
    ("n", "walk"),
    [
        (0, []),
        (1, [0]),
        (2, [1, 0]),
        (3, [2, 1, 0]),
        (4, [2, 3, 1, 0]),
        (5, [3, 4, 2, 1, 0]),
        (8, [4, 5, 3, 6, 2, 7, 1, 0]),
    ],
)
def test_medium_walk(n, walk):
    assert medium_walk(n).tolist() == walk


@pytest.mark.parametrize("n", [10, 11, 50, 51, 500])
def test_medium_walk_is_the_published_one_where_that_is_defined(n):
    # store_medium of VILA-Lab/DELT data_selection.py: mid + int(sign * (step + 1) / 2).
    middle, sign, published = -(-n // 2), -1, []
    for step in range(n):
        published.append(middle + int(sign * (step + 1) / 2))
        sign = -sign
    inside = next((step for step, at in enumerate(published) if not 0 <= at < n), n)
    assert inside >= n - 2
    assert medium_walk(n)[:inside].tolist() == published[:inside]


SCORES = np.array([0.9, 0.1, 0.5, 0.7, 0.3])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("top", [0, 3, 2, 4, 1]), ("min", [1, 4, 2, 3, 0]), ("medium", [3, 0, 2, 4, 1])],
)
def test_modes(mode, expected):
    assert order(SCORES, mode).tolist() == expected


@pytest.mark.parametrize("mode", MODES)
def test_order_follows_names_whatever_the_order_of_the_images(mode):
    scores = np.array([0.5, 0.5, 0.1, 0.5, 1.0, 1.0, 0.1])
    names = np.array(list("dacbgfe"))
    expected = names[order(scores, mode, names=names, rng=np.random.default_rng(5))]
    shuffle = np.random.default_rng(1).permutation(7)
    shuffled = order(scores[shuffle], mode, names=names[shuffle], rng=np.random.default_rng(5))
    assert names[shuffle][shuffled].tolist() == expected.tolist()
    assert sorted(expected) == sorted(names)


def test_ties_go_by_name():
    names = ["b", "c", "a"]
    for mode in ("top", "min"):
        assert order(np.ones(3), mode, names=names).tolist() == [2, 0, 1]
    assert order(np.ones(3), "min").tolist() == [0, 1, 2]


def test_random_depends_on_the_generator_alone():
    draw = order(SCORES, "random", rng=np.random.default_rng(0)).tolist()
    assert draw == order(SCORES * np.nan, "random", rng=np.random.default_rng(0)).tolist()
    draws = {tuple(order(SCORES, "random", rng=np.random.default_rng(s))) for s in range(20)}
    assert len(draws) > 10


def test_errors():
    with pytest.raises(InputError, match="'best': expected one of medium, top, min, random"):
        order(SCORES, "best")
    with pytest.raises(InputError, match="needs a random generator"):
        order(SCORES, "random")
    with pytest.raises(InputError, match="score of image 1: NaN"):
        order(np.array([0.5, np.nan]), "top")


def test_cell_k_of_image_i_is_rank_k_ipc_plus_i():
    assert mosaic_ranks(2, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert mosaic_ranks(3, 1).tolist() == [[0], [1], [2]]
    ranks = mosaic_ranks(5, 3)
    assert ranks.shape == (5, 9)
    assert all(ranks[i, k] == k * 5 + i for i in range(5) for k in range(9))


def test_sample_is_by_seed_and_name_and_goes_on_where_a_smaller_one_stopped():
    everything = np.ones(9, bool)

    def draw(count, candidates=everything, names=None, seed=3):
        return sample(candidates, count, np.random.default_rng(seed), names).tolist()

    assert draw(9) == draw(20) == list(range(9))
    assert len(draw(4)) == 4
    assert set(draw(4)) < set(draw(6))
    assert len({tuple(draw(4, seed=seed)) for seed in range(20)}) > 10
    # Without those that the first draw left out, the same are drawn.
    assert draw(4, np.isin(np.arange(9), draw(4))) == draw(4)
    assert draw(20, np.arange(9) < 3) == [0, 1, 2]
    # The order of the images does not matter, only their names.
    shuffled = np.random.default_rng(0).permutation(9)
    again = draw(4, names=[f"{position}" for position in shuffled])
    assert sorted(shuffled[again].tolist()) == draw(4)


def test_small_views_are_scored_in_the_middle_of_zeros():
    views = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3, 3), np.uint8)
    seen = []

    def apply(variables, inputs):
        seen.append(np.asarray(inputs))
        return inputs.mean((1, 2)) * variables

    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
    labels = np.array([2, 0])
    scores = view_scores(apply, 50.0, views, labels, Statistics.of(mean, std), 6)

    expected = np.zeros((2, 3, 6, 6, 3))
    expected[:, :, 1:4, 1:4] = (views / 255 - mean) / std  # of three missing pixels two are after
    np.testing.assert_allclose(seen[0], expected.reshape(6, 6, 6, 3), atol=1e-5)
    odds = np.exp(expected.mean((2, 3)) * 50)
    probabilities = odds / odds.sum(-1, keepdims=True)
    np.testing.assert_allclose(scores, [probabilities[0, :, 2], probabilities[1, :, 0]], rtol=1e-4)
