"""A folder of images by class, as torchvision's ImageFolder and most of the world lay it out."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from delt_jax.data.decoding import decode, is_image_name
from delt_jax.errors import InputError

# What the two splits may be called, the first that is there wins.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


class FolderSource:
    """Images opened one at a time; see `delt_jax.data.sources.ImageSource`.

    Args:
      folder: holds one folder per class.
      class_names: the folders, in label order.

    Raises:
      InputError: where a class has no image.
    """

    def __init__(self, folder: pathlib.Path, class_names: tuple[str, ...]):
        self._folder = folder
        self.class_names = class_names
        names, labels = [], []
        for label, class_name in enumerate(class_names):
            found = sorted(_images_below(folder / class_name, f"{class_name}/"))
            if not found:
                raise InputError(f"{folder / class_name}: no image in it; expected at least one")
            names += found
            labels += [label] * len(found)
        self.names = tuple(names)
        self.labels = np.asarray(labels, np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        path = self._folder / self.names[index]
        return decode(path, str(path))


def open_image_folder(root: pathlib.Path, split: str) -> FolderSource:
    """Opens `root/train`, or `root/test` (`val`, `validation`), of class folders.

    Classes are the folders of `root/train`, sorted; the other split must have the same ones.

    Raises:
      InputError: where a folder is missing, the classes differ, or one has no image.
    """
    train_classes = _class_folders(_split_folder(root, "train"))
    folder = _split_folder(root, split)
    classes = _class_folders(folder)
    if classes != train_classes:
        odd = sorted(set(classes) ^ set(train_classes))[0]
        where = folder if odd in classes else _split_folder(root, "train")
        raise InputError(
            f"{root}: class {odd!r} is only in {where.name}/ ({len(train_classes)} classes in "
            f"train/, {len(classes)} in {folder.name}/); expected the same classes in both"
        )
    return FolderSource(folder, classes)


def _split_folder(root: pathlib.Path, split: str) -> pathlib.Path:
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    found = sorted(entry.name for entry in root.iterdir())
    listing = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") if found else "nothing"
    expected = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
    raise InputError(f"{root}: no {split} split, found {listing}; expected {expected} in it")


def _class_folders(folder: pathlib.Path) -> tuple[str, ...]:
    names = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise InputError(f"{folder}: no class folder in it; expected one folder per class")
    return tuple(names)


def _images_below(folder: pathlib.Path, prefix: str) -> Iterator[str]:
    # Below the class folder links to folders are not followed: they can form a loop.
    for path, _, files in os.walk(folder):
        below = pathlib.Path(path).relative_to(folder).as_posix()
        inner = "" if below == "." else f"{below}/"
        yield from (f"{prefix}{inner}{name}" for name in files if is_image_name(name))
