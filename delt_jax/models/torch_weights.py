"""torch weights in and out, by rule: a module's path is its torch path, a leaf's name its layout.

| Linen leaf | torch leaf | layout |
| --- | --- | --- |
| params kernel | weight | (..., in, out) to (out, in, ...): HWIO to OIHW, depthwise alike |
| params NAME_kernel | NAME_weight | likewise (packed attention: in_proj_weight) |
| params scale | weight | as it is |
| params, any other | the same name | as it is |
| batch_stats mean, var | running_mean, running_var | as it is |
| - | `BUFFERS` | only their shape is looked at on the way in; computed on the way out |

A flattened activation is laid out as torch's (`delt_jax.models.layers.flatten`), so that no
classifier needs a permutation.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from delt_jax.errors import InputError
from delt_jax.models import state_dicts, swin, weight_files, weight_keys
from delt_jax.models.registry import variable_shapes

IMAGE_CHANNELS = 3
NAMED_AT_MOST = 4  # keys spelled out per kind of problem; the rest are counted
# What a state_dict holds beside weights and statistics, by the leaf of ours that it comes with.
_BUFFERS: dict[tuple[str, str], Callable[[], dict[str, np.ndarray]]] = {
    ("batch_stats", "var"): lambda: {"num_batches_tracked": np.zeros((), np.int64)},
    ("params", "logit_scale"): swin.buffers,
}
BUFFERS = tuple(name for make in _BUFFERS.values() for name in make())
_NAMES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}


class OtherClassesError(InputError):
    """Weights that fit but for their number of classes, which is `found`."""

    def __init__(self, message: str, found: int):
        super().__init__(message)
        self.found = found


def read_state_dict(
    path: str | Path, key: str = "", coverage: Callable[[Mapping[str, Any]], int] | None = None
) -> dict[str, np.ndarray]:
    """Reads a torch state_dict, from wherever in the checkpoint it is.

    Args:
      path: a file of weights (see `delt_jax.models.weight_files.read`).
      key: which of several sets of weights in it, as "state_dict_ema"; "" for the one that is
        there, or the one that is no average (see `delt_jax.models.state_dicts.choose`).
      coverage: see there, and `coverage_of`.

    Returns:
      Arrays in torch's layout under torch's keys, without `module.`, `_orig_mod.` and the like.

    Raises:
      InputError: where the file is absent, damaged, of another kind, holds code, or holds no
        weights, or several; or torch is needed and not installed.
    """
    path = Path(path)
    content = weight_files.read(path)
    sets = state_dicts.find(content)
    try:
        if not sets:
            shown = _some([str(entry) for entry in content])
            arrays = "; NumPy arrays in a pickle are not read, save tensors or .safetensors"
            raise InputError(
                f"no tensors under {shown}; expected a state_dict, bare or nested"
                + (arrays if weight_files.has_unread_array(content) else "")
            )
        tensors = state_dicts.choose(sets, path.name, key, coverage)
        return {name: weight_files.to_array(name, tensor) for name, tensor in tensors.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def coverage_of(module: nn.Module, image_size: int) -> Callable[[Mapping[str, Any]], int]:
    """A function that counts how many of a network's tensors a state_dict has."""
    expected = _shapes(module, image_size)
    classes = getattr(module, "num_classes", None)

    def coverage(tensors: Mapping[str, Any]) -> int:
        found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        return weight_keys.coverage(found, expected, _current_key(module), classes)

    return coverage


def _shapes(module: nn.Module, image_size: int) -> dict[str, tuple[int, ...]]:
    """The shapes that torch's tensors have by torch's keys, without buffers."""
    leaves: dict[tuple[str, ...], Any] = flatten_dict(variable_shapes(module, image_size))
    return {_torch_key(path): _torch_shape(path, leaf.shape) for path, leaf in leaves.items()}


def _current_key(module: nn.Module) -> Callable[[str], str]:
    return getattr(module, "current_key", lambda key: key)


def from_state_dict(
    module: nn.Module,
    image_size: int,
    state_dict: Mapping[str, np.ndarray],
    source: str = "weights",
    rows: Sequence[int] | None = None,
) -> dict:
    """Lays out a torch state_dict as the module's variables.

    Keys may have a prefix, and the classifier another name (see `delt_jax.models.weight_keys.fit`).

    Args:
      module: from `delt_jax.models.registry.create`.
      image_size: side of its images in pixels (a ConvNet's classifier depends on it).
      state_dict: arrays in torch's layout under torch's keys.
      source: what to call the state_dict in an error, e.g. its file.
      rows: rows of the classifier to take, in the order of the module's classes; None: all.

    Returns:
      `{"params": ..., "batch_stats": ...}` of jax arrays: float32, or wider where the state_dict is
      and jax allows it.

    Raises:
      InputError: naming every kind of problem: missing, unexpected and misshapen keys, and a
        classifier for another number of classes; or the first tensor with NaN or infinity in it.
    """
    leaves: dict[tuple[str, ...], Any] = flatten_dict(variable_shapes(module, image_size))
    keys = {_torch_key(path): path for path in leaves}
    shapes = {key: _torch_shape(path, leaves[path].shape) for key, path in keys.items()}
    try:
        fit = _fit(module, shapes, state_dict)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if fit.left_out:
        logging.warning(
            "%s: left out tensors beside those of the network, %d: %s",
            *(source, len(fit.left_out), _some(list(fit.left_out))),
        )
    found = {key: state_dict[name] for key, name in fit.keys.items()}
    if rows is not None:
        for key in _classifier_keys(module, image_size):
            found |= {key: np.asarray(found[key])[list(rows)]} if key in found else {}
    for path in leaves:  # buffers may be absent
        shapes |= {key: value.shape for key, value in _buffers(path).items() if key in found}
    # Those of other layers are not worth a word beside the weights of these layers.
    others = {key for key in found if key.endswith(BUFFERS)} - shapes.keys()
    found = {key: value for key, value in found.items() if key not in others}
    found_shapes = {key: value.shape for key, value in found.items()}
    _check_shapes(shapes, found_shapes, module, image_size, source)

    variables = {}
    for key, path in keys.items():
        value = np.asarray(found[key])
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(f"{source}: {key} has dtype {value.dtype}, expected floats")
        if broken := int(np.sum(~np.isfinite(value))):
            raise InputError(
                f"{source}: {broken:,} of {value.size:,} values of {key} are NaN or infinite; "
                "expected weights of a network that was trained to its end"
            )
        if _is_kernel(path):
            value = np.moveaxis(value, (0, 1), (-1, -2))
        dtype = jnp.promote_types(value.dtype, leaves[path].dtype)
        # A copy, so that no file stays mapped and nobody else's array is aliased.
        variables[path] = jnp.array(value, jax.dtypes.canonicalize_dtype(dtype), copy=True)
    return unflatten_dict(variables)


def count_classes(
    module: nn.Module, image_size: int, state_dict: Mapping[str, np.ndarray]
) -> int | None:
    """How many classes the classifier of a state_dict has; None where it has no such classifier."""
    names = _fit(module, _shapes(module, image_size), state_dict).keys
    keys = [key for key in _classifier_keys(module, image_size) if key in names]
    counts = {state_dict[names[key]].shape[:1] for key in keys}
    return counts.pop()[0] if len(counts) == 1 and () not in counts else None


def _classifier_keys(module: nn.Module, image_size: int) -> list[str]:
    """The keys whose shape follows the number of classes."""
    classes: int = module.num_classes  # pyright: ignore[reportAttributeAccessIssue]
    shapes = _shapes(module, image_size)
    other = _shapes(module.clone(num_classes=classes + 1), image_size)
    return [key for key, shape in shapes.items() if shape != other[key]]


def _fit(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    state_dict: Mapping[str, np.ndarray],
) -> weight_keys.Fit:
    found = {key: value.shape for key, value in state_dict.items()}
    classes = getattr(module, "num_classes", None)
    return weight_keys.fit(found, shapes, _current_key(module), classes)


def to_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Lays out variables as a torch state_dict that `load_state_dict(strict=True)` takes.

    `from_state_dict` and `to_state_dict` are each other's inverse, bit for bit.
    """
    state_dict = {}
    for path, value in flatten_dict(dict(variables)).items():
        value = np.asarray(value)
        if _is_kernel(path):
            value = np.moveaxis(value, (-1, -2), (0, 1))
        # torch wants its own, contiguous, writable.
        state_dict[_torch_key(path)] = np.array(value, order="C")
        state_dict |= _buffers(path)
    return state_dict


def _buffers(path: tuple[str, ...]) -> dict[str, np.ndarray]:
    """What torch keeps beside a leaf, under its key."""
    collection, *modules, leaf = path
    make = _BUFFERS.get((collection, leaf), dict)
    return {".".join((*modules, name)): value for name, value in make().items()}


def _is_kernel(path: tuple[str, ...]) -> bool:
    return path[0] == "params" and (path[-1] == "kernel" or path[-1].endswith("_kernel"))


def _torch_key(path: tuple[str, ...]) -> str:
    collection, *modules, leaf = path
    name = _NAMES.get((collection, leaf), leaf)
    return ".".join((*modules, name.replace("_kernel", "_weight")))


def _torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[-1], shape[-2], *shape[:-2]) if _is_kernel(path) else shape


def _check_shapes(
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
    module: nn.Module,
    image_size: int,
    source: str,
) -> None:
    """Raises `InputError` with everything that does not fit, in one line."""
    missing = [f"{key} {shape}" for key, shape in expected.items() if key not in found]
    unexpected = [f"{key} {shape}" for key, shape in found.items() if key not in expected]
    misshapen = {
        key: (found[key], shape)
        for key, shape in expected.items()
        if key in found and found[key] != shape
    }
    problems = []
    num_classes = getattr(module, "num_classes", None)
    classes = _class_count(misshapen, num_classes)
    if classes is not None:
        problems.append(f"they have {classes} classes, expected {num_classes}")
    if missing:
        problems.append(f"missing {_some(missing)}")
    if unexpected:
        problems.append(f"unexpected {_some(unexpected)}")
    if stem := _other_stem(misshapen):
        problems.append(f"they have another stem, {stem}")
    elif side := _other_side(misshapen, image_size):
        problems.append(f"they are for images of side {side}, expected {image_size}")
    elif misshapen and classes is None:
        pairs = [f"{key} {got}, expected {want}" for key, (got, want) in misshapen.items()]
        problems.append(f"misshapen {_some(pairs)}")
    elif missing and sorted(expected.values()) == sorted(found.values()):
        problems.append("all shapes agree, so that the names alone may differ")
    message = f"{source}: not those of this {type(module).__name__}: {'; '.join(problems)}"
    if classes is not None and len(problems) == 1:
        raise OtherClassesError(message, classes)
    if problems:
        raise InputError(message)


def _class_count(
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], num_classes: int | None
) -> int | None:
    """The number of classes found, where the only mismatch is that of the classifier's outputs."""
    counts = {got[:1] for got, _ in misshapen.values()}
    only_outputs = all(
        want[:1] == (num_classes,) and got[1:] == want[1:] for got, want in misshapen.values()
    )
    if len(counts) == 1 and only_outputs and counts != {()}:
        return counts.pop()[0]
    return None


def _other_stem(misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> str:
    """The first convolution's shapes, where only the side of its kernel differs; else empty."""
    if len(misshapen) == 1:
        ((key, (got, want)),) = misshapen.items()
        if len(got) == len(want) == 4 and got[:2] == want[:2] and want[1] == IMAGE_CHANNELS:
            return f"{got[2]}x{got[3]} ({key}), expected {want[2]}x{want[3]}"
    return ""


def _other_side(
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]], image_size: int
) -> int:
    """The side of the images, where only a position embedding (1, 1 + patches, d) differs; or 0."""
    if len(misshapen) == 1:
        ((got, want),) = misshapen.values()
        same = len(got) == len(want) == 3 and got[0] == want[0] == 1 and got[2] == want[2]
        if same and got[1] > 1:
            return round(image_size * math.sqrt((got[1] - 1) / (want[1] - 1)))
    return 0


def _some(items: list[str]) -> str:
    """The first few items, and how many there are."""
    shown = ", ".join(items[:NAMED_AT_MOST])
    more = len(items) - NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
