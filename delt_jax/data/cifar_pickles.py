"""CIFAR-10 and CIFAR-100 as their publisher packs them and torchvision unpacks them.

The files are pickles. They are read by an unpickler that knows arrays of numbers, texts and plain
containers, and calls nothing that a file names. Layout: cs.toronto.edu/~kriz/cifar.html, and
pytorch/vision torchvision/datasets/cifar.py.
"""

import io
import pathlib
import pickle
import re
from typing import Any, NamedTuple

import numpy as np

from delt_jax.data.arrays import ArraySource, make_source
from delt_jax.data.image_source import distinct
from delt_jax.errors import InputError
from delt_jax.runtime import faults

_SIDE = 32


class _Layout(NamedTuple):
    """The files of a data set, and the keys in them."""

    folder: str
    files: dict[str, tuple[str, ...]]
    meta: str
    labels: str
    names: str


_LAYOUTS = {
    "cifar10": _Layout(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)},
        *("batches.meta", "labels", "label_names"),
    ),
    "cifar100": _Layout(
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        *("meta", "fine_labels", "fine_label_names"),
    ),
}


def find_cifar(root: pathlib.Path, name: str = "") -> tuple[pathlib.Path, str] | None:
    """Returns the folder of pickles, which is `root` or lies in it, and which set it holds.

    Args:
      root: where torchvision downloaded to, or the unpacked folder itself.
      name: "cifar10" or "cifar100" where both may be there; else the first is taken.

    Returns:
      (folder, "cifar10" or "cifar100"); None where there are no such pickles.

    Raises:
      InputError: where both are there, and `name` is none of them.
    """
    found = [
        (folder, key)
        for key, layout in _LAYOUTS.items()
        for folder in (root, root / layout.folder)
        if all((folder / file).is_file() for file in (layout.meta, *layout.files["test"]))
    ]
    chosen = [pair for pair in found if pair[1] == name] or found
    if len(chosen) > 1:
        folders = " and ".join(folder.name for folder, _ in chosen)
        raise InputError(f"{root}: holds {folders}; expected the path of one of them")
    return chosen[0] if chosen else None


def open_cifar(folder: pathlib.Path, key: str, split: str) -> ArraySource:
    """Opens one split of a folder that `find_cifar` found.

    Raises:
      InputError: naming the file that is missing, damaged or something else.
    """
    layout = _LAYOUTS[key]
    names = _entry(folder / layout.meta, layout.names)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / layout.meta}: {layout.names} is no list of texts")
    images, labels = [], []
    for file in (folder / name for name in layout.files[split]):
        pixels, numbers = _entry(file, "data"), np.asarray(_entry(file, layout.labels))
        if not isinstance(pixels, np.ndarray) or pixels.shape != (len(pixels), 3 * _SIDE**2):
            found = getattr(pixels, "shape", type(pixels).__name__)
            raise InputError(f"{file}: data {found}; expected an array [n, {3 * _SIDE**2}]")
        images.append(pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        labels.append(numbers)
    return make_source(
        np.concatenate(images),
        np.concatenate(labels),
        distinct(names),
        ("data", layout.labels),
        f"{folder}: ",
    )


def _entry(file: pathlib.Path, key: str) -> Any:
    """What a pickle has under a key, which Python 2 has written as bytes."""
    try:
        content = read_pickle(file.read_bytes())
    except Exception as error:  # damaged pickles raise almost anything
        faults.pass_on(error, str(file))
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{file}: cannot be read as a pickle of CIFAR ({reason})") from error
    if not isinstance(content, dict) or key not in content:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content)
        raise InputError(f"{file}: no {key}, found {str(found)[:200]}")
    return content[key]


def read_pickle(data: bytes) -> Any:
    """Reads a pickle of arrays of numbers, texts, numbers and plain containers.

    Byte strings become texts (Latin-1), arrays are copies. Whatever class or function the file
    names is compared with a short list, and never imported.

    Raises:
      pickle.UnpicklingError: where the file names anything else.
      Exception: whatever a damaged file makes `pickle` raise.
    """
    return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load())


class _Dtype:
    """A dtype, as NumPy's pickles make it: of numbers alone."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode() if isinstance(code, bytes) else code
        if not re.fullmatch(r"[<>|=]?[biuf][1248]", code):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}; expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = np.dtype(f"{order if order in ('<', '>') else '='}{self.dtype.str[1:]}")


class _Array:
    """An array, as NumPy's pickles make it."""

    def __init__(self, *_: Any):
        self.array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        self._fill(data, dtype, shape, "F" if is_fortran else "C")

    @classmethod
    def of_buffer(cls, data: Any, dtype: _Dtype, shape: Any, order: str) -> "_Array":
        """As NumPy makes it from protocol 5 on."""
        made = cls()
        made._fill(data, dtype, shape, order)
        return made

    def _fill(self, data: Any, dtype: _Dtype, shape: Any, order: Any) -> None:
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


class _KindOfArray:
    """`numpy.ndarray`, which pickles name and never call."""

    def __init__(self, *_: Any):
        raise pickle.UnpicklingError("a call of numpy.ndarray")


def _scalar(dtype: _Dtype, data: Any) -> Any:
    return _Array.of_buffer(data, dtype, (), "C").array[()]


def _encoded(text: Any, encoding: Any) -> str:
    """Python 3 writes bytes so up to protocol 2."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError("a call of _codecs.encode")
    return text


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _KindOfArray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
}
for _core in ("numpy.core", "numpy._core"):  # before and from NumPy 2 on
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _Array
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _Array.of_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which could run code"
            ) from None


def _plain(value: Any) -> Any:
    """Arrays for what stands for them, texts for bytes; lists within lists as deep as CIFAR's."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [entry.decode("latin1") if isinstance(entry, bytes) else entry for entry in value]
    return value
