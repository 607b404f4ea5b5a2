"""Keys of a state_dict, found again in those of a network: prefixes, parts, other names."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from delt_jax.errors import InputError

Shape = tuple[int, ...]

# First words of keys that belong to no layer of a network, but stand beside them.
_BESIDE = {"criterion", "loss", "losses", "metric", "metrics", "acc", "accuracy", "averaged"}
_COUNTERS = ("total_ops", "total_params")  # thop leaves them in every layer


@dataclasses.dataclass(frozen=True)
class Fit:
    """How the keys of a state_dict become those of a network.

    Attributes:
      keys: the state_dict's key for each key as the network calls it, unexpected ones included.
      prefixes: taken off the keys, with the dot at their end; "" for none.
      left_out: keys of the state_dict that stand outside of them.
    """

    keys: dict[str, str]
    prefixes: tuple[str, ...]
    left_out: tuple[str, ...]


def fit(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    current_key: Callable[[str], str],
    num_classes: int | None = None,
) -> Fit:
    """Finds a network's keys among those of a state_dict.

    One prefix is taken off (`model.`), or two that share the network between them (`backbone.` and
    `head.`, mmpretrain's); a classifier may have another name (`linear` for `fc`), where nothing
    else is left over.

    Args:
      found: shapes by the keys of the state_dict.
      expected: shapes by the keys of the network, buffers left out.
      current_key: maps a key without prefix to that of the network (see
        `delt_jax.models.registry`).
      num_classes: rows of the network's classifier.

    Raises:
      InputError: where the network, or all of it but its classifier, is there under two prefixes.
    """
    candidates = _candidates(found, expected, current_key)
    covered = {prefix: keys.keys() & expected.keys() for prefix, keys in candidates.items()}
    complete = [prefix for prefix in candidates if len(covered[prefix]) == len(expected)]
    if "" not in complete:
        _check_single(complete)
    # The one that has most of the network, and the shortest of those.
    main = min(candidates, key=lambda prefix: (-len(covered[prefix]), len(prefix)))
    keys = {key: candidates[main][key] for key in expected if key in covered[main]}
    missing = expected.keys() - keys.keys()
    parts = _other_parts(candidates, covered[main], missing)
    _check_single(parts)
    if parts:
        keys |= {key: candidates[parts[0]][key] for key in missing}
    else:
        keys |= _other_classifier(found, expected, missing, {*keys.values()}, num_classes)
    if missing and main and len(keys) == len(expected):
        _check_single_body([prefix for prefix in covered if covered[prefix] == covered[main]])
    used, others = {*keys.values()}, tuple(filter(None, (*parts, *complete)))
    for key, name in candidates[main].items():
        beside = main == "" and (name.startswith(others) or _stands_beside(name))
        if name not in used and not beside and not name.endswith(_COUNTERS):
            keys[key] = name  # one that the network does not have
    taken = {*keys.values()}
    left_out = [name for name in found if name not in taken and not name.endswith(_COUNTERS)]
    return Fit(keys, (main, *parts), tuple(left_out))


def coverage(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    current_key: Callable[[str], str],
    num_classes: int | None = None,
) -> int:
    """How many of a network's keys a state_dict has; arguments as those of `fit`."""
    try:
        return len(fit(found, expected, current_key, num_classes).keys.keys() & expected.keys())
    except InputError:  # it has them all, and more than once
        return len(expected)


def _check_single(prefixes: Sequence[str]) -> None:
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix.rstrip(".")) for prefix in sorted(prefixes))
        raise InputError(
            f"its keys are there under several prefixes, {names}; name one as weights_key"
        )


def _check_single_body(prefixes: Sequence[str]) -> None:
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix.rstrip(".")) for prefix in sorted(prefixes))
        raise InputError(
            f"its layers are there under several prefixes, {names}, and its classifier outside of "
            "them; save one whole network alone"
        )


def _candidates(
    found: Collection[str], expected: Collection[str], current_key: Callable[[str], str]
) -> dict[str, dict[str, str]]:
    """For each prefix there is the keys under it: as the network calls them, and as they are."""
    parts = (key.split(".")[:-1] for key in found)
    paths = (itertools.accumulate(part, "{}.{}".format) for part in parts)
    prefixes = dict.fromkeys(f"{path}." for path in itertools.chain.from_iterable(paths))
    return {prefix: _renamed(found, prefix, expected, current_key) for prefix in ("", *prefixes)}


def _renamed(
    found: Collection[str],
    prefix: str,
    expected: Collection[str],
    current_key: Callable[[str], str],
) -> dict[str, str]:
    """The keys under one prefix; a name of the network that is there already is not given again."""
    inner = [key.removeprefix(prefix) for key in found if key.startswith(prefix)]
    keys = {key: prefix + key for key in inner if key in expected}
    for key in inner:
        if key not in keys:
            current = current_key(key)
            keys[key if current in keys else current] = prefix + key
    return keys


def _other_parts(
    candidates: Mapping[str, Mapping[str, str]], covered: set[str], missing: set[str]
) -> list[str]:
    """The prefixes under which the rest of the network is: whole top modules, and nothing else."""
    tops = {key.partition(".")[0] for key in missing}
    if not missing or any(key.partition(".")[0] in tops for key in covered):
        return []
    return [
        prefix
        for prefix, keys in candidates.items()
        if not missing - keys.keys() and not keys.keys() & covered
    ]


def _other_classifier(
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    missing: Collection[str],
    used: Collection[str],
    num_classes: int | None,
) -> dict[str, str]:
    """The missing classifier, where a layer that takes the same features is all that is left."""
    names = sorted(missing)
    shapes = [expected[name] for name in names]
    if len(names) != 2 or len(shapes[1]) != 2 or shapes != [(num_classes,), shapes[1]]:
        return {}
    left = [key for key in found if key not in used and not _stands_beside(key)]
    left = sorted(key for key in left if key.endswith((".weight", ".bias")))
    layer = left[0].removesuffix(".bias") if left else ""
    if left != [f"{layer}.bias", f"{layer}.weight"]:
        return {}
    bias, weight = (found[key] for key in left)
    fits = len(weight) == 2 and weight[1] == shapes[1][1] and bias == weight[:1]
    return dict(zip(names, left, strict=True)) if fits else {}


def _stands_beside(key: str) -> bool:
    return bool(_BESIDE.intersection(re.findall(r"[a-z]+", key.partition(".")[0].lower())))
