"""Batches of images split over the devices of a mesh; everything else lies on each of them.

The programs are written for one device: the compiler splits what follows from a split batch, and a
statistic of the batch stays one of the whole batch. So BatchNorm is synchronised without a word,
random draws are those of one device, and results equal its own to rounding. A batch that the
devices do not divide is split too: the compiler fills up the last shares and masks them.
"""

from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree, Shaped

from delt_jax.core.training import Apply

IMAGES = "images"  # the mesh axis over which batches are split
BATCH_NORMS = ("synchronised", "per_device")

Tree = TypeVar("Tree")


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of what lies whole on every device; None, jax's default, for one device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """Puts a tree of arrays whole on every device; nothing moves where it lies there already."""
    return jax.device_put(tree, replicated(mesh))


def split(images: Shaped[Array, "b *rest"], mesh: Mesh | None) -> Shaped[Array, "b *rest"]:
    """Splits an array inside a jitted program over its first axis."""
    if mesh is None:
        return images
    return jax.lax.with_sharding_constraint(images, NamedSharding(mesh, PartitionSpec(IMAGES)))


def per_device(apply: Apply, mesh: Mesh | None) -> Apply:
    """`apply` in train mode, each device for its own share of the images: BatchNorm too.

    What torch's DistributedDataParallel and DataParallel do without SyncBatchNorm: a share is
    normalised with its own statistics, the loss is that of all images, and the running statistics
    are those of the first device. Dropout draws anew on each device.

    Args:
      apply: the network's `module.apply`.
      mesh: one-dimensional, of axis `IMAGES`; None: `apply` is returned as it is.

    Returns:
      `applied(variables, images, train, mutable, rngs)`, differentiable, for use under jit. Images
      that the devices do not divide, such as an epoch's last batch, are normalised as a whole.
    """
    if mesh is None:
        return apply
    whole, own = PartitionSpec(), PartitionSpec(IMAGES)

    def applied(
        variables: dict[str, PyTree],
        images: Shaped[Array, "b h w c"],
        train: bool,
        mutable: list[str],
        rngs: Any = None,
    ) -> tuple[Array, PyTree]:
        if len(images) % mesh.size:
            return apply(variables, images, train=train, mutable=mutable, rngs=rngs)

        def of_share(variables, images, rngs):
            device = jax.lax.axis_index(IMAGES)
            rngs = jax.tree.map(lambda key: jax.random.fold_in(key, device), rngs)
            logits, updated = apply(variables, images, train=train, mutable=mutable, rngs=rngs)
            return logits, jax.tree.map(lambda leaf: leaf[None], updated)

        logits, updated = jax.shard_map(
            of_share, mesh=mesh, in_specs=(whole, own, whole), out_specs=(own, own)
        )(variables, images, rngs)
        return logits, jax.tree.map(lambda leaf: leaf[0], updated)

    return applied
