"""How modules hand out what they saw on the way: Linen collections that hold the latest value."""

from flax import linen as nn
from jaxtyping import Array


def is_wanted(module: nn.Module, collection: str) -> bool:
    """Whether the caller asked for `collection` (and is not merely initialising)."""
    return module.is_mutable_collection(collection) and not module.is_initializing()


def sow_latest(module: nn.Module, collection: str, name: str, value: Array) -> None:
    """Stores `value` bare, overwriting: the tree is then shaped like `batch_stats`.

    `init` stores nothing, so that variables hold parameters and running statistics only.
    """
    if is_wanted(module, collection):
        module.sow(collection, name, value, reduce_fn=lambda _, new: new, init_fn=lambda: value)


def sow_penultimate(module: nn.Module, features: Array) -> None:
    """Hands out the classifier's input, shape `[b, d]`, as features/penultimate."""
    sow_latest(module, "features", "penultimate", features)
