"""Distilled sets that other programs wrote, which have no manifest: class folders and arrays."""

import logging
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import UInt8

from delt_jax.data.arrays import make_source
from delt_jax.data.image_folder import open_two_folders
from delt_jax.data.image_source import ImageSource
from delt_jax.data.specs import Channels, find_spec, get_spec, statistics
from delt_jax.errors import InputError
from delt_jax.export.image_folder import class_folders, encode, to_uint8, write_file
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.models.weight_files import import_torch
from delt_jax.runtime import faults

TORCH_SUFFIXES = (".pt", ".pth", ".th")
_KEPT = {".png": ".png", ".jpg": ".jpg", ".jpeg": ".jpg"}  # files that are copied as they are
_NUMBER = re.compile(r"(?:new|class)?_?([0-9]+)")  # of a class, as programs name its folder
_HOW = "arrays of pixels are evaluated as they are: evaluate((images, labels), ...)"

# The (mean, std) that images were normalised with, in one of the forms that `load_distilled` takes.
Choice = str | Sequence[Sequence[float]]


def copy_folder(source: pathlib.Path, destination: pathlib.Path) -> None:
    """Copies an ImageFolder, or its train/, as a distilled set with a manifest.

    Classes are its folders as any data set's, images sorted by name in each. Where folders are
    called by their numbers (`new000`, `00001`), the classes are, as those without names. JPEG and
    PNG files stay as they are; others become PNG.

    Raises:
      InputError: where it is no ImageFolder, an image cannot be read, or two differ in size.
    """
    # One without folders in it is a class of that name, as CIFAR-100 has it.
    nested = any(path.is_dir() for path in (source / "train").glob("*"))
    root = source / "train" if nested else source
    found = open_two_folders(root, root, "train")

    def file_of(index: int) -> tuple[str, bytes]:
        image, path = found[index], root / found.names[index]
        if image.shape != shape:
            raise InputError(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels; expected {shape[1]} x "
                f"{shape[0]} as the first image"
            )
        suffix = _KEPT.get(path.suffix.lower())
        return (suffix, path.read_bytes()) if suffix else (".png", encode(image, "png"))

    shape = found[0].shape
    numbers = [_NUMBER.fullmatch(name) for name in found.class_names]
    if [int(match[1]) for match in numbers if match] == list(range(len(numbers))):
        found.class_names = tuple(map(str, range(len(numbers))))
    _write(destination, found, file_of)


def copy_arrays(source: pathlib.Path, destination: pathlib.Path, choice: Choice | None) -> None:
    """Writes the images and labels of an `.npz`, `.safetensors` or torch file as a distilled set.

    Args:
      source: holds one array of images, `[n, h, w, c]` or `[n, c, h, w]`, and one of labels, under
        any names; labels may lie beside it instead, as images_best.pt and labels_best.pt do.
      destination: a new folder.
      choice: what the images were normalised with; None for pixels.

    Raises:
      InputError: where it is something else, or its values are no pixels.
    """
    arrays = _read_arrays(source)
    beside = source.with_name(source.name.replace("images", "labels"))
    if len(arrays) == 1 and beside != source and beside.is_file():
        arrays |= {f"{beside.name}.{key}": array for key, array in _read_arrays(beside).items()}
    key = _only_images(arrays, source)
    where = f"{source}: {key}" if key else str(source)
    images = _pixels(arrays[key], where, choice)
    label_key, labels = _labels(arrays, len(images), source)
    names = [array for array in arrays.values() if array.dtype.kind == "U" and array.ndim == 1]
    class_names = list(map(str, names[0])) if names else None
    left = [name for name, array in arrays.items() if name not in (key, label_key)]
    left = [name for name in left if arrays[name].dtype.kind != "U"]
    if left:
        logging.warning("%s: not read beside images and labels: %s", source, ", ".join(left))
    found = make_source(images, labels, class_names, (key or "images", label_key), f"{source}: ")
    _write(destination, found, lambda index: (".png", encode(found[index], "png")))


def _write(
    destination: pathlib.Path, source: ImageSource, file_of: Callable[[int], tuple[str, bytes]]
) -> None:
    """Writes the files that `file_of` gives for each position, with their manifest."""
    folders = class_folders(source.class_names)
    slots = [0] * len(folders)
    records = []
    for index, label in enumerate(source.labels.tolist()):
        record = ImageRecord(label, source.class_names[label], slots[label])
        slots[label] += 1
        records.append(write_file(destination, record, folders[label], *file_of(index)))
    write_manifest(destination, records, {"method": "unknown", "ipc": max(slots)})


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array in a file, by its name or by its path through lists and dictionaries."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return dict(archive)
        if path.suffix.lower() == ".safetensors":
            return safetensors.numpy.load_file(path)
        if path.suffix.lower() in TORCH_SUFFIXES:
            return _read_torch(path)
    except InputError:
        raise
    except Exception as error:  # readers raise almost anything on broken bytes
        faults.pass_on(error, str(path))
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: cannot be read ({reason}); expected arrays") from error
    known = ", ".join((".npz", ".safetensors", *TORCH_SUFFIXES))
    raise InputError(f"{path}: expected a folder of images, or a file of {known}")


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = import_torch(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused, it is damaged or holds more than tensors, which could run code; "
            "save images and labels alone"
        ) from error
    found: dict[str, np.ndarray] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach()
            found[name] = (value.float() if value.is_floating_point() else value).numpy()
        elif isinstance(value, Mapping | list | tuple):
            entries = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, entry in entries:
                walk(entry, f"{name}.{key}" if name else str(key))

    walk(content, "")
    return found


def _only_images(arrays: Mapping[str, np.ndarray], path: pathlib.Path) -> str:
    images = [name for name, array in arrays.items() if array.ndim == 4]
    if len(images) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"{path}: {len(images)} arrays of images in {shapes[:300] or 'nothing'}; expected one, "
            f"[n, h, w, c] or [n, c, h, w] (load_data opens a data set; {_HOW})"
        )
    return images[0]


def _labels(
    arrays: Mapping[str, np.ndarray], count: int, path: pathlib.Path
) -> tuple[str, np.ndarray]:
    """The name and values of the labels: of integers, or one-hot."""
    fitting = {
        name: array
        for name, array in arrays.items()
        if array.ndim in (1, 2) and len(array) == count and array.dtype.kind in "iuf"
    }
    classes = {
        name: array
        for name, array in fitting.items()
        if array.dtype.kind in "iu" and array.size == count
    } or {
        name: array.argmax(1)
        for name, array in fitting.items()
        if array.ndim == 2 and (array.max(1) == 1).all() and ((array != 0).sum(1) == 1).all()
    }
    if len(classes) == 1:
        return next(iter(classes.items()))
    found = ", ".join(f"{name} {array.shape} {array.dtype}" for name, array in fitting.items())
    raise InputError(
        f"{path}: {found or 'no labels'}; expected one array of the classes of {count} images, "
        f"integers [n] (learned labels are not read; {_HOW})"
    )


def _pixels(images: np.ndarray, where: str, choice: Choice | None) -> UInt8[np.ndarray, "n h w c"]:
    """Bytes of images that may be channels first, in [0, 1], whole from 0 to 255, or normalised."""
    if images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    shape, kind = images.shape, images.dtype.kind
    if shape[-1] not in (1, 3) or kind not in "iuf" or not np.isfinite(images).all() or 0 in shape:
        raise InputError(
            f"{where}: {images.dtype} {shape}; expected finite pixels of 1 or 3 channels"
        )
    if images.dtype == np.uint8:
        return images
    if choice is not None:
        mean, std = _moments(choice)
        images = images * np.asarray(std) + np.asarray(mean)
    low, high = float(images.min()), float(images.max())
    if kind == "f" and low >= -1e-3 and high <= 1 + 1e-3:
        return to_uint8(np.broadcast_to(images, (*shape[:3], 3)), "nearest")
    if choice is not None:
        raise InputError(
            f"{where}: pixels from {low:.4g} to {high:.4g} with statistics {choice!r}; expected 0 "
            f"to 1 (whitened images are no pixels; clip those that a method let run out; {_HOW})"
        )
    if low >= 0 and high <= 255 and (images == np.rint(images)).all():
        return images.astype(np.uint8)
    raise InputError(
        f"{where}: values from {low:.4g} to {high:.4g}; expected pixels, uint8 or from 0 to 1 "
        "(normalised ones need statistics='mean/std'; whitened ones are no pixels; "
        f"{_HOW})"
    )


def _moments(choice: Choice) -> tuple[Channels, Channels]:
    if isinstance(choice, str):
        if (spec := find_spec(choice)) is not None:
            return spec.mean, spec.std
        if choice != "imagenet" and "/" not in choice:
            raise InputError(
                f"statistics {choice!r}: expected a data set of the table, imagenet, or numbers as "
                "mean/std"
            )
    return statistics(choice, get_spec("digits"))  # of whose own nothing is taken
