"""Mixed views of a whole epoch, drawn once and kept image by image, and images shown by them.

Every image is shown once an epoch, alone with its partner, so that a reader may take images one by
one or in batches of any size. Source of the semantics: the soft labels that SRe2L stores (FKD; Shen
and Xing, arXiv 2112.01528): a random resized crop and flip of each image, one CutMix permutation
and box for each batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from delt_jax.core.augment.geometry import Box, View, random_view, resample
from delt_jax.core.augment.mixing import Patch, draw_cutmix, paste
from delt_jax.core.augment.views import StudentViews, as_pixels
from delt_jax.errors import InputError

UNCHANGED = StudentViews(randaugment_ops=0, min_scale=1.0, flip_probability=0.0, cutmix=0.0)


class StoredViews(NamedTuple):
    """How each of n images is shown; row i is of image i.

    Attributes:
      crops: top, left, height, width in pixels.
      flips: 1 where left and right are exchanged after the crop is resized, else 0.
      partners: the image whose own view is pasted into this one.
      patches: top, left, bottom, right of what is pasted; empty where nothing is.
    """

    crops: Int[Array, "n 4"]
    flips: UInt8[Array, "n"]
    partners: Int[Array, "n"]
    patches: Int[Array, "n 4"]


class StoredLabels(NamedTuple):
    """The views of an epoch, and what a teacher says of them.

    Attributes:
      views: of each image.
      logits: of each mixed image; float16, or float32 where they were kept otherwise.
    """

    views: StoredViews
    logits: Float[Array, "n k"]


def check(views: StudentViews | None) -> None:
    """Raises `InputError` for views that cannot be kept: those with RandAugment or MixUp."""
    if views is not None and (views.randaugment_ops or views.mixup):
        raise InputError(
            f"stored views with {views.randaugment_ops} ops of RandAugment and mixup "
            f"{views.mixup}: expected 0 of both, for neither is kept"
        )


def draw_epoch(
    key: Key[Array, ""],
    count: int,
    size: int,
    batch_size: int,
    views: StudentViews | None,
    order: Int[Array, "n"] | None = None,
) -> tuple[Int[Array, "n"], StoredViews]:
    """Draws the order and the views of an epoch.

    Args:
      key: random key.
      count: n, the images of the set.
      size: side of the (square) images in pixels, at most 32767.
      batch_size: images that follow one another in the order and share a CutMix patch, partners
        among themselves; the last batch may be smaller.
      views: crop, flip and CutMix; None for images as they are.
      order: in which images are shown; None: drawn.

    Returns:
      The order in which images are shown, int32 `[n]`, and their views.

    Raises:
      InputError: see `check`.
    """
    check(views)
    views = views or UNCHANGED
    key_order, key_views, key_mix = jax.random.split(key, 3)
    if order is None:
        order = jax.random.permutation(key_order, count).astype(jnp.int32)
    view = jax.vmap(
        lambda key: random_view(key, size, views.min_scale, flip_probability=views.flip_probability)
    )(jax.random.split(key_views, count))
    partners = jnp.arange(count, dtype=jnp.int32)
    patches = jnp.zeros((count, 4), jnp.int16)
    whole = count - count % batch_size
    for number, rows in enumerate((order[:whole].reshape(-1, batch_size), order[whole:][None])):
        if not views.cutmix or not rows.size:
            continue
        batches, width = rows.shape
        keys = jax.random.split(jax.random.fold_in(key_mix, number), batches)
        draw = jax.vmap(lambda key, width=width: draw_cutmix(key, width, size, size, views.cutmix))(
            keys
        )
        partners = partners.at[rows].set(jnp.take_along_axis(rows, draw.permutation, axis=1))
        patch = jnp.stack(draw.patch, axis=-1).astype(jnp.int16)  # [batches, 4]
        patches = patches.at[rows].set(jnp.broadcast_to(patch[:, None], (batches, width, 4)))
    crops = jnp.stack(view.box, axis=-1).astype(jnp.int16)
    return order, StoredViews(crops, view.flip.astype(jnp.uint8), partners, patches)


def show(
    images: UInt8[Array, "n s s 3"], views: StoredViews, chosen: Int[Array, "b"]
) -> Float[Array, "b s s 3"]:
    """Shows images as their stored views say: each its own view, its partner's pasted into it.

    Args:
      images: the set.
      views: of each image of the set.
      chosen: the images to show.

    Returns:
      Mixed pixels in [0, 1], in jax's default float.
    """

    def seen(rows: Int[Array, "b"]) -> Float[Array, "b s s 3"]:
        crops = views.crops[rows].astype(jnp.int32)
        unrolled = jnp.zeros(len(rows), jnp.int32)
        view = View(Box(*crops.T), views.flips[rows].astype(bool), unrolled, unrolled)
        return resample(as_pixels(images[rows]), view)

    patch = Patch(*views.patches[chosen].astype(jnp.int32).T)
    return paste(seen(chosen), seen(views.partners[chosen]), patch)


def cut_out(
    views: StoredViews, chosen: Int[np.ndarray, "b"]
) -> tuple[Int[np.ndarray, "m"], StoredViews]:
    """The smallest set that shows the chosen images: they themselves, then the partner of each.

    For sets of which a device holds a part; arrays of the host.

    Args:
      views: of the whole set.
      chosen: b images.

    Returns:
      The images of the part, `[2 b]`, and its views; the chosen ones come first.
    """
    crops, flips, partners, patches = map(np.asarray, views)
    rows = np.concatenate([chosen, partners[chosen]])
    renumbered = np.tile(np.arange(len(chosen), len(rows), dtype=np.int32), 2)
    return rows, StoredViews(crops[rows], flips[rows], renumbered, patches[rows])  # type: ignore[arg-type]
