"""What files and folders of weights hold, and what they turn out to be instead.

The bytes decide how a file is read, so that a wrong suffix does no harm.
"""

import itertools
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors

from delt_jax.errors import InputError

_TORCH_SUFFIXES = (
    *(".pth", ".th", ".pt", ".tar", ".bin", ".ckpt"),  # .tar: as in .pth.tar
    *(".pyth", ".t7", ".pkl"),  # pycls; older CIFAR code; accelerate
)
_SUFFIXES = (".safetensors", *_TORCH_SUFFIXES)
_INDEX = ".index.json"  # names the files that a large network was split into
_TRAINING_STATE = re.compile(  # files that accelerate and transformers write beside the weights
    r"(optimizer|scheduler|scaler|sampler|dl_state|random_states|rng_state|training_args"
    r"|custom_checkpoint)"
)
_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# Python names that training scripts leave in their files beside the weights: their arguments, NumPy
# numbers and arrays, mmengine's curves. Stand-ins that do nothing take their places.
_UNREAD_NAMES = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.bool_",
    *(f"numpy.{kind.__name__}" for kind in dict.fromkeys(np.sctypeDict.values())),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    "mmengine.logging.history_buffer.HistoryBuffer",
)


class _Unread:
    """A value that is not read: whatever a file builds it from is ignored."""

    def __new__(cls, *args: object) -> "_Unread":
        return super().__new__(cls)

    def __init__(self, *args: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _stand_in(path: str) -> type[_Unread]:
    module, _, name = path.rpartition(".")
    return type(name, (_Unread,), {"__module__": module})


_UNREAD: list[Any] = [_stand_in(path) for path in _UNREAD_NAMES]


def read(path: Path) -> Mapping[Any, Any]:
    """Reads a file: tensors under their keys, nested as they lie there, other values among them.

    Args:
      path: a `.safetensors` file, or a file of torch's (`.pth` and its like), which needs torch and
        is read without running any code that it may hold. For an index (`....index.json`), the
        files that it names are read as one.

    Raises:
      InputError: where the file is absent, damaged, of another kind, holds code, or is no mapping;
        or torch is needed and not installed.
    """
    if path.name.endswith(_INDEX):
        return _read_shards(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise InputError(f"{path}: weights of type {path.suffix!r}, expected one of {known}")
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected weights")
    with path.open("rb") as file:
        head = file.read(512)
    if other := _other_kind(head):
        raise InputError(f"{path}: {other}; expected weights")
    # A safetensors file begins with the length of its header in 8 bytes, and the header with {.
    fits = int.from_bytes(head[:8], "little") <= path.stat().st_size
    of_torch = head[:2] in (b"PK", b"\x80\x02")
    if (head[8:9] == b"{" and fits) or (suffix == ".safetensors" and not of_torch):
        return _read_safetensors(path)
    return _read_torch(path)


def in_folder(folder: Path) -> Path:
    """The one file of weights in a folder of Hugging Face's, accelerate's or a training script's.

    Raises:
      InputError: where there is none, or more than one.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    found = [
        name
        for name in names
        if name.lower().endswith((*_SUFFIXES, _INDEX)) and not _TRAINING_STATE.match(name)
    ]
    for kind in (".safetensors", ".bin"):  # the Hub has the same weights in both formats
        for name in (f"model{kind}", f"pytorch_model{kind}"):
            for choice in (name, name + _INDEX):
                if choice in found:
                    return folder / choice
    if len(found) == 1:
        return folder / found[0]
    if found:
        shown = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise InputError(f"{folder}: holds {shown}; expected one file of weights: give its path")
    raise InputError(
        f"{folder}: holds neither a card.json, as networks that were saved here, nor weights "
        f"({', '.join(_SUFFIXES)})"
    )


def _read_shards(path: Path) -> dict[str, Any]:
    try:
        names = sorted({*json.loads(path.read_bytes())["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: no index of weights, expected a weight_map") from error
    tensors: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name.endswith(_INDEX):
            raise InputError(f"{path}: file {name!r}, expected the name of a file beside the index")
        tensors |= read(path.parent / name)
    return tensors


def _other_kind(head: bytes) -> str:
    """What a file is that is often saved as weights by mistake; "" where nothing is recognised."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file that begins with zeros, as an interrupted copy leaves it"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    text = head.removeprefix(b"\xef\xbb\xbf").strip()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer in place of the file (`git lfs pull` fetches it)"
    if text.startswith(b"<"):
        return "a web page (of an error, a login or a preview) in place of the file"
    if head.startswith(b"\x1f\x8b"):
        return "compressed by gzip; unpack it"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, as Keras writes them"
    shown = text.decode("utf-8", "ignore")
    if shown and not re.search(r"[^\s -~\u00a0-\uffff]", shown):
        return f"a text that begins {shown[:40]!r}"
    return ""


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


def import_torch(path: Path) -> Any:
    """Returns torch, which is heavy and optional; an `InputError` says that a file needs it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: reading {path.suffix} files needs torch: pip install delt_jax[torch]"
        ) from error
    return torch


def _read_torch(path: Path) -> Mapping[Any, Any]:
    torch = import_torch(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_UNREAD):
            warnings.simplefilter("ignore")  # of old formats; what cannot be read is an error
            with path.open("rb") as file:  # by a path, torch would go by its suffix
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise almost anything on broken bytes
        raise InputError(f"{path}: {_refusal(path, error)}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a state_dict")
    if not content:
        raise InputError(f"{path}: holds an empty dict, expected a state_dict")
    return content


def _refusal(path: Path, error: Exception) -> str:
    """Why torch has not read a file."""
    text = str(error)
    if other := _other_archive(path):
        return f"a zip archive of {other}, no file of torch's; expected weights"
    if "TorchScript" in text:
        return "a TorchScript archive, which holds code; save its state_dict() alone"
    if type(error).__name__ == "UnpicklingError":
        # torch names what it does not know, e.g. "GLOBAL models.resnet.ResNet was not allowed".
        named = re.search(r"GLOBAL ([\w.]+)", text)
        holds = f"holds {named[1]}" if named else "is damaged or holds more than weights"
        reason = f"{holds}, which could run code"
        if "Unsupported operand" in text:
            reason = "is damaged or no pickle of protocol 2, which torch.save writes"
        return f"refused, it {reason}; save its state_dict alone, or convert it to .safetensors"
    reason = text.partition("\n")[0][:200] or type(error).__name__
    return f"damaged or no torch file ({reason})"


def _other_archive(path: Path) -> str:
    """The first entries of a zip archive that no torch.save wrote; "" for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return ""
    if any(name.endswith("/data.pkl") for name in names):
        return ""
    return ", ".join(names[:4]) or "nothing"


def is_tensor(value: object) -> bool:
    """Whether a value of a file is a tensor, of torch's or an array."""
    return isinstance(value, np.ndarray) or hasattr(value, "is_floating_point")


def has_unread_array(content: Mapping[Any, Any]) -> bool:
    """Whether a file has NumPy arrays of a pickle under its keys, or one level below."""
    below = [value for value in content.values() if isinstance(value, Mapping)]
    values = itertools.chain(content.values(), *(mapping.values() for mapping in below))
    return any(
        isinstance(value, _Unread) and type(value).__name__ == "_reconstruct" for value in values
    )


def to_array(key: str, tensor: Any) -> np.ndarray:
    """A tensor's values; NumPy has no bfloat16 of its own, so that torch's goes through float32.

    Raises:
      InputError: for a tensor that has no values of its own: sparse, quantised, on no device.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    try:
        tensor = tensor.detach()
        if tensor.is_floating_point() and tensor.element_size() < 4:
            tensor = tensor.float()
        return tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        kind = f"{tensor.layout}, {tensor.dtype}, on {tensor.device}"
        raise InputError(f"{key}: a tensor of kind {kind}, expected plain numbers") from error
