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

import argparse
import math
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from delt_jax.errors import InputError
from delt_jax.models import swin
from delt_jax.models.registry import variable_shapes

IMAGE_CHANNELS = 3
NAMED_AT_MOST = 4  # keys spelled out per kind of problem; the rest are counted
_TORCH_SUFFIXES = (".pth", ".th", ".pt", ".tar", ".bin", ".ckpt")  # .tar: as in .pth.tar
_NESTS = ("state_dict", "model")  # where training scripts put the weights in their checkpoints
_PREFIXES = ("module.", "_orig_mod.")  # of torch.nn.DataParallel, of torch.compile
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
_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a torch state_dict, from wherever in the checkpoint it is.

    Args:
      path: a `.safetensors` file, or a file of torch's (`.pth` and its like), which needs torch and
        is read without running any code that it may hold. The weights may lie under "state_dict" or
        "model", and every key may begin with "module." or "_orig_mod." (as torch.nn.DataParallel
        and torch.compile write them).

    Returns:
      Arrays in torch's layout under torch's keys.

    Raises:
      InputError: where the file is absent, damaged, of another kind, holds code, or holds no
        weights; or torch is needed and not installed.
    """
    path = Path(path)
    if path.suffix != ".safetensors" and path.suffix not in _TORCH_SUFFIXES:
        known = ", ".join((".safetensors", *_TORCH_SUFFIXES))
        raise InputError(f"{path}: weights of type {path.suffix!r}, expected one of {known}")
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected weights")
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    else:
        tensors = _read_torch(path)
    for prefix in _PREFIXES * 2:  # in either order
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return parse_safetensors(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file's bytes (bfloat16 included); they share its memory."""
    # safetensors.numpy.load knows no bfloat16; the container itself is easily read.
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise InputError(f"damaged or no safetensors file ({error})") from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            known = ", ".join(_SAFETENSORS_DTYPES)
            raise InputError(f"{name} has dtype {entry['dtype']}, expected one of {known}")
        dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        tensors[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    return tensors


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # heavy and optional: only those who read such files need it
    except ImportError as error:
        raise InputError(
            f"{path}: reading {path.suffix} files needs torch: pip install delt_jax[torch]"
        ) from error
    try:
        # torchvision's training script, and those made from it, store their arguments too.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of old formats; what cannot be read is an error
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, it is damaged or holds more than weights, which could run code; "
            "save its state_dict alone, or convert it to .safetensors"
        ) from error
    except Exception as error:  # torch's readers raise almost anything on broken bytes
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{path}: damaged or no torch file ({reason})") from error

    while isinstance(content, Mapping):
        nest = next((key for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        content = content[nest]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a state_dict")
    other = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise InputError(
            f"{path}: no tensors under {_some(other)}; expected a state_dict, "
            f"bare or under {' or '.join(map(repr, _NESTS))}"
        )
    return {str(key): _to_numpy(tensor) for key, tensor in content.items()}


def _to_numpy(tensor: Any) -> np.ndarray:
    """A torch tensor's values; NumPy has no bfloat16 of its own, so that goes through float32."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.numpy()


def from_state_dict(
    module: nn.Module,
    image_size: int,
    state_dict: Mapping[str, np.ndarray],
    source: str = "weights",
) -> dict:
    """Lays out a torch state_dict as the module's variables.

    Args:
      module: from `delt_jax.models.registry.create`.
      image_size: side of its images in pixels (a ConvNet's classifier depends on it).
      state_dict: arrays in torch's layout under torch's keys.
      source: what to call the state_dict in an error, e.g. its file.

    Returns:
      `{"params": ..., "batch_stats": ...}` of jax arrays: float32, or wider where the state_dict is
      and jax allows it.

    Raises:
      InputError: naming every kind of problem: missing, unexpected and misshapen keys, and a
        classifier for another number of classes; or the first tensor with NaN or infinity in it.
    """
    current_key = getattr(module, "current_key", lambda key: key)
    leaves: dict[tuple[str, ...], Any] = flatten_dict(variable_shapes(module, image_size))
    keys = {_torch_key(path): path for path in leaves}
    shapes = {key: _torch_shape(path, leaves[path].shape) for key, path in keys.items()}
    found = {current_key(key): value for key, value in state_dict.items()}
    for path in leaves:  # buffers may be absent
        shapes |= {key: value.shape for key, value in _buffers(path).items() if key in found}
    # Those of other layers are not worth a word beside the weights of these layers.
    others = {key for key in found if key.endswith(BUFFERS)} - shapes.keys()
    found = {key: value for key, value in found.items() if key not in others}
    found_shapes = {key: value.shape for key, value in found.items()}
    problems = _problems(shapes, found_shapes, module, image_size)
    if problems:
        raise InputError(f"{source}: not those of this {type(module).__name__}: {problems}")

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


def _problems(
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
    module: nn.Module,
    image_size: int,
) -> str:
    """Everything that does not fit, in one line; empty where all does."""
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
    return "; ".join(problems)


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
