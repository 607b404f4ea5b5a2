"""Which real images to begin with: the teacher's score, and the order in which a class is taken."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int64

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
