"""Which real images to begin with: the teacher's score, and the order in which a class is taken."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int64, UInt8

from delt_jax.core.augment.views import Statistics, as_pixels, normalise
from delt_jax.errors import InputError

MODES = ("medium", "top", "min", "random")


def true_class_probability(
    logits: Float[Array, "b k"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """Returns softmax(logits)[label] of each image: the score that DELT ranks by.

    Args:
      logits: the teacher's, of one centre crop per image.
      labels: true class of each.

    Returns:
      Probabilities, in the dtype of the logits.
    """
    log_probabilities = jax.nn.log_softmax(logits, axis=-1)
    return jnp.exp(jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0])


def view_scores(
    apply: Callable[..., Any],
    variables: Any,
    views: UInt8[Array, "b v s s 3"],
    labels: Int[Array, " b"],
    statistics: Statistics,
    image_size: int,
) -> Float[Array, "b v"]:
    """Scores several views of each image.

    A view of fewer pixels than the teacher takes is put in the middle of zeros, after it is
    normalised (LINs-lab/RDED synthesize/utils.py at 3f6453d, `pad`).

    Args:
      apply: the teacher's `module.apply`.
      variables: the teacher's.
      views: of each image.
      labels: true class of each image.
      statistics: that views are normalised with.
      image_size: S, the side that the teacher takes.

    Returns:
      The probability of the true class in each view.
    """
    b, v, s = views.shape[:3]
    inputs = normalise(as_pixels(views.reshape(b * v, s, s, 3)), statistics)
    before, missing = (image_size - s) // 2, image_size - s
    padding = (before, missing - before)
    inputs = jnp.pad(inputs, [(0, 0), padding, padding, (0, 0)])
    return true_class_probability(apply(variables, inputs), jnp.repeat(labels, v)).reshape(b, v)


def order(
    scores: Float[np.ndarray, " n"],
    mode: str,
    *,
    names: Sequence[str] | np.ndarray | None = None,
    rng: np.random.Generator | None = None,
) -> Int64[np.ndarray, " n"]:
    """Orders the images of one class by preference: the first IPC are the ones selected.

    The first image joins the synthesis first and is optimised longest.

    - `medium`: ascending by score, then the middle, the next above, the next below, and so on
      outwards (see `medium_walk`);
    - `top`: descending, from the easiest;
    - `min`: ascending, from the hardest;
    - `random`: shuffled by `rng`; scores are not looked at.

    Equal scores are taken in the order of their names, ascending, so that the result depends on
    neither the order of the images nor the sort. NOTE(parity): the published code leaves ties to
    an unstable sort.

    Args:
      scores: of the images of one class.
      mode: one of `MODES`.
      names: of the images, unique; None stands for their positions.
      rng: for `random` alone, which needs it.

    Returns:
      Every position once, most preferred first.

    Raises:
      InputError: for an unknown mode, or a score that is not a number.
    """
    if mode not in MODES:
        raise InputError(f"selection mode {mode!r}: expected one of {', '.join(MODES)}")
    positions = np.arange(len(scores))
    by_name = np.argsort(np.asarray(names), kind="stable") if names is not None else positions
    if mode == "random":
        if rng is None:
            raise InputError("selection mode 'random': needs a random generator, got none")
        return rng.permutation(by_name)
    scores = np.asarray(scores)[by_name]
    if np.isnan(scores).any():
        raise InputError(f"score of image {by_name[np.isnan(scores)][0]}: NaN; expected a number")
    if mode == "top":
        return by_name[np.argsort(-scores, kind="stable")]
    ascending = by_name[np.argsort(scores, kind="stable")]
    return ascending if mode == "min" else ascending[medium_walk(len(scores))]


def medium_walk(n: int) -> Int64[np.ndarray, " n"]:
    """Walks a sorted list from its middle outwards: ceil(n / 2), + 1, - 1, + 2, - 2, ... (0-based).

    NOTE(parity): the published walk (VILA-Lab/DELT data_selection.py at f2f81ca, `store_medium`)
    stops with an error where it leaves the list above; ours goes on with what is left below, so
    that a class of exactly IPC images can be used whole.

    Args:
      n: length of the list.

    Returns:
      Every position from 0 to n - 1 once.

    >>> medium_walk(6)
    array([3, 4, 2, 5, 1, 0])
    """
    steps = np.arange(2 * n + 1)
    walk = (n + 1) // 2 + np.where(steps % 2 == 1, (steps + 1) // 2, -(steps // 2))
    return walk[(walk >= 0) & (walk < n)]


def mosaic_ranks(ipc: int, factor: int) -> Int64[np.ndarray, "ipc cells"]:
    """Deals the first ipc * factor^2 ranks of a class to the cells of its mosaics.

    Cell k (row by row) of image i is rank k ipc + i, so that each image has its share of the best
    (LINs-lab/RDED synthesize/utils.py at 3f6453d, `mix_images`).

    >>> mosaic_ranks(3, 2)
    array([[ 0,  3,  6,  9],
           [ 1,  4,  7, 10],
           [ 2,  5,  8, 11]])
    """
    return np.arange(ipc * factor**2).reshape(factor**2, ipc).T


def sample(
    candidates: Bool[np.ndarray, " n"],
    count: int,
    rng: np.random.Generator,
    names: Sequence[str] | np.ndarray | None = None,
) -> Int64[np.ndarray, " m"]:
    """Draws up to `count` of the candidates of one class.

    A larger count, or the same candidates with some of the others among them, goes on where the
    smaller draw stopped.

    Args:
      candidates: which of the images may be drawn.
      count: how many are wanted; all where there are fewer.
      rng: one generator a class.
      names: of the images, unique; None stands for their positions.

    Returns:
      Positions, ascending.
    """
    positions = np.arange(len(candidates))
    by_name = np.argsort(np.asarray(names), kind="stable") if names is not None else positions
    drawn = rng.permutation(by_name)
    return np.sort(drawn[candidates[drawn]][:count])
