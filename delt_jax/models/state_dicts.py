"""The sets of weights in a checkpoint: which there are, and which one is taken."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from delt_jax.errors import InputError
from delt_jax.models.weight_files import is_tensor

# What wrappers put into the keys of what they wrap: DataParallel and DDP, torch.compile, FSDP,
# activation checkpointing, Lightning Fabric, fairscale.
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fpw_module",
}
# Words in the name of a set: a network as it is trained, and one that follows it as an average.
_PLAIN = {"state", "dict", "model", "net", "network", "weights", "params", "student", "online"}
_AVERAGES = {"ema", "swa", "avg", "average", "averaged", "polyak", "shadow", "teacher", "target"}


def find(content: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """The sets of weights in what a file holds, by the dotted path of keys that leads to them.

    A set is a mapping that has tensors under names; what else it has is left out. Wrappers
    (`module.`, `_orig_mod.`, ...) are taken off the keys.

    >>> import numpy as np
    >>> found = find({"model": {"module.fc.bias": np.zeros(2)}, "epoch": 3})
    >>> {path: list(tensors) for path, tensors in found.items()}
    {'model': ['fc.bias']}
    """
    sets: dict[str, dict[str, Any]] = {}
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    seen = set()
    while waiting:
        path, mapping = waiting.pop(0)
        named = {key: value for key, value in mapping.items() if isinstance(key, str)}
        tensors = {key: value for key, value in named.items() if is_tensor(value)}
        if tensors:
            sets[path] = unwrapped(tensors)
        if id(mapping) not in seen:  # a pickle may hold a mapping twice, or within itself
            seen.add(id(mapping))
            nested = {key: value for key, value in named.items() if isinstance(value, Mapping)}
            waiting += [(join(path, key), value) for key, value in nested.items()]
    return sets


def unwrapped(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors without wrappers in their keys; as they are where two keys would become one."""
    plain = {
        ".".join(part for part in key.split(".") if part not in _WRAPPERS): value
        for key, value in tensors.items()
    }
    return plain if len(plain) == len(tensors) else dict(tensors)


def join(path: str, key: str) -> str:
    """A dotted path with one more part; either may be empty."""
    return f"{path}.{key}" if path and key else path or key


def choose(
    sets: Mapping[str, Mapping[str, Any]],
    source: str,
    key: str = "",
    coverage: Callable[[Mapping[str, Any]], int] | None = None,
) -> dict[str, Any]:
    """Takes one set of weights; a warning names the others that could have been meant.

    Args:
      sets: from `find`; at least one.
      source: what to call the file in the warning.
      key: the path of a set, or a prefix of keys within one ("state_dict.ema_model", "ema_model").
      coverage: how many of the sought network's tensors a set has; the sets that have most are
        looked at alone. Among those a set as it is trained comes before an average (EMA) of it.

    Returns:
      Its tensors; without the prefix where `key` has one.

    Raises:
      InputError: where the key leads to no set, or several sets may be meant.
    """
    named = {path: _under(path, tensors, key) for path, tensors in sets.items()}
    named = {path: tensors for path, tensors in named.items() if tensors}
    if not named:
        there = ", ".join(path or f"keys of {_first_words(sets[path])}" for path in sets)
        raise InputError(f"no weights under weights_key = {key!r}; there are {there}")
    covered = {path: coverage(tensors) if coverage else 0 for path, tensors in named.items()}
    if coverage and len(named) > 1 and not key:
        # A network may be saved in parts: {"backbone": ..., "classifier": ...}.
        whole = {join(path, name): t for path, part in named.items() for name, t in part.items()}
        if coverage(whole) > max(covered.values()):
            return whole
    best = [path for path in named if covered[path] == max(covered.values())]
    ranks = {path: _rank(path) for path in best}
    first = [path for path in best if ranks[path] == min(ranks.values())]
    if len(first) > 1:
        raise InputError(
            f"holds several sets of weights: {', '.join(best)}; name one as weights_key"
        )
    taken = first[0]
    others = [path or "(unnamed)" for path in best if path != taken]
    if others:
        logging.warning(
            "%s: took the weights under %s; there is also %s (teacher.weights_key names another)",
            *(source, taken or "no name", ", ".join(others)),
        )
    return named[taken]


def _first_words(tensors: Mapping[str, Any]) -> str:
    """What the keys of a set begin with: its prefixes, where it has any."""
    words = [*dict.fromkeys(key.partition(".")[0] for key in tensors)]
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")


def _under(path: str, tensors: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a key names of a set: all of it, the part with a prefix, or nothing."""
    if not key or path == key or path.startswith(f"{key}."):
        return dict(tensors)
    prefix = key.removeprefix(f"{path}.") + "."
    return {k.removeprefix(prefix): value for k, value in tensors.items() if k.startswith(prefix)}


def _rank(path: str) -> int:
    words = set(re.findall(r"[a-z]+", path.lower()))
    if words & _AVERAGES:
        return 2
    return 0 if words <= _PLAIN else 1
