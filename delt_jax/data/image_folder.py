"""Folders of images by class, as torchvision's ImageFolder and most of the world lay them out."""

import collections
import concurrent.futures
import functools
import logging
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from delt_jax.data.class_order import text_of
from delt_jax.data.decoding import decode
from delt_jax.data.image_names import count_endings, is_image_name, is_stray
from delt_jax.errors import InputError
from delt_jax.runtime import faults

# What the two splits may be called. The first that is there wins, of those for tests the first that
# has a training class.
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}

_ANNOTATIONS = "*_annotations.txt"  # the classes of Tiny-ImageNet's val/images

_LISTING_THREADS = 16  # a network disk makes its readers wait, one folder at a time
_FRESH_SECONDS = 2.0  # a folder changed so recently may change again without its time saying so


class FolderSource:
    """Images opened one at a time; see `delt_jax.data.image_source.ImageSource`.

    Args:
      folder: holds one folder per class.
      class_folders: in label order; their names, in one Unicode form, are those of the classes.

    Raises:
      InputError: where a class has no image, a folder cannot be listed or a name is not UTF-8.
    """

    split: str = ""

    def __init__(self, folder: pathlib.Path, class_folders: tuple[str, ...]):
        self._folder = folder
        self.class_names = tuple(map(text_of, class_folders))
        with concurrent.futures.ThreadPoolExecutor(_LISTING_THREADS) as pool:
            found = list(pool.map(lambda name: _images_of_class(folder, name), class_folders))
        for class_name, listing in zip(class_folders, found, strict=True):
            if not listing.images:
                others = _as_text(listing.left_out)
                raise InputError(
                    f"{folder / class_name}: no image in it{others and f', but {others}'}; "
                    "expected at least one"
                )
        self.names = tuple(name for listing in found for name in listing.images)
        labels = np.arange(len(found), dtype=np.int64)
        self.labels = np.repeat(labels, [len(listing.images) for listing in found])
        left_out = sum((listing.left_out for listing in found), collections.Counter())
        if left_out:
            _say_left_out(str(folder), left_out.total(), _as_text(left_out))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        path = self._folder / self.names[index]
        return decode(path, str(path))


def open_image_folder(root: pathlib.Path, split: str) -> FolderSource:
    """Opens `root/train`, or `root/test` (`val`, `valid`, `validation`), of class folders.

    A folder of test images that has none of the training classes, as those of competitions, is
    passed over for the next that has some.

    Raises:
      InputError: where a folder is missing, the classes differ, or one has no image.
    """
    train = _split_folder(root, "train")
    return open_two_folders(train, train if split == "train" else _test_folder(root, train), split)


def open_two_folders(train: pathlib.Path, test: pathlib.Path, split: str) -> FolderSource:
    """Opens one of two folders of class folders, wherever they lie.

    Classes are the folders of `train`, sorted; the other must have the same ones, of which the
    Unicode form of the name may differ. Class folders may
    be links. Below them folders are looked through too, but links to folders are not followed, for
    they can form a loop. Hidden files and folders, and those that a program left there (see
    `delt_jax.data.image_names`), are ignored. Files whose ending is no image's are left out, and a
    warning counts them.

    Args:
      train: with the training images.
      test: with the test images; not looked at for the training split.
      split: "train" or "test".

    Raises:
      InputError: where the classes differ, one has no image, or both are the same folder.
    """
    train_classes = _class_folders(train)
    if split == "train":
        return FolderSource(train, tuple(train_classes.values()))
    classes = _class_folders(test)
    if classes.keys() != train_classes.keys():
        odd = sorted(classes.keys() ^ train_classes.keys())[0]
        annotations = next(test.glob(_ANNOTATIONS), None)
        hint = f" (sort those of {test} into them by {annotations.name})" if annotations else ""
        raise InputError(
            f"class {odd!r} is only in {test if odd in classes else train} ({len(train_classes)} "
            f"classes in {train}, {len(classes)} in {test}); expected the same classes in both"
            + hint
        )
    for name, folder in train_classes.items():
        if (train / folder).samefile(test / classes[name]):
            raise InputError(
                f"class {name!r}: {test / classes[name]} and {train / folder} are the same folder; "
                "expected test images that are no training images"
            )
    source = FolderSource(test, tuple(classes[name] for name in train_classes))
    for first in np.unique(source.labels, return_index=True)[1]:  # of each class
        image = test / source.names[first]
        if image.is_symlink() and image.resolve().is_relative_to(train.resolve()):
            raise InputError(
                f"{image}: a link to a training image, {image.resolve()}; expected test images "
                "that are no training images"
            )
    return source


def _test_folder(root: pathlib.Path, train: pathlib.Path) -> pathlib.Path:
    """The first folder of test images with a training class, else one that tells their classes."""
    first = _split_folder(root, "test")
    folders = [root / name for name in SPLIT_FOLDERS["test"] if (root / name).is_dir()]
    train_classes = _class_folders(train).keys()
    for place, folder in enumerate(folders):
        if train_classes & {text_of(entry.name) for entry in _entries(folder)}:
            if place:
                _say_passed_over(", ".join(map(str, folders[:place])), str(folder))
            return folder
    return next((folder for folder in folders if any(folder.glob(_ANNOTATIONS))), first)


@functools.cache  # every stage opens the folder again, and once is enough
def _say_passed_over(folders: str, chosen: str) -> None:
    logging.warning(
        "%s: passed over, it has none of the training classes; %s is the test split",
        *(folders, chosen),
    )


def _split_folder(root: pathlib.Path, split: str) -> pathlib.Path:
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    found = sorted(entry.name for entry in _entries(root))
    listing = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "") if found else "nothing"
    expected = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
    raise InputError(f"{root}: no {split} split, found {listing}; expected {expected} in it")


def _class_folders(folder: pathlib.Path) -> dict[str, str]:
    """The folders of classes, sorted, by the name of the class, which is theirs in one form."""
    names = []
    for entry in _entries(folder):
        if entry.is_symlink():
            _check_link(pathlib.Path(entry.path), folder)
        if _is_folder(entry):
            names.append(entry.name)
    if not names:
        raise InputError(f"{folder}: no class folder in it; expected one folder per class")
    folders: dict[str, str] = {}
    for name in sorted(names):
        other = folders.setdefault(text_of(name), name)
        if other != name:
            raise InputError(
                f"{folder}: folders {other!a} and {name!a} are one name, "
                f"{text_of(name)!r}, in two Unicode forms; expected one folder per class"
            )
    return folders


def _check_link(link: pathlib.Path, folder: pathlib.Path) -> None:
    """Refuses a link beside the class folders that leads to nothing, or back to where it lies."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a circle, before Python 3.13
        raise InputError(
            f"{link}: a link that leads nowhere or in a circle; expected a class folder"
        ) from None
    if folder.resolve().is_relative_to(target):
        raise InputError(f"{link}: a link to {target}, where it lies; expected a class folder")


class _Listing(NamedTuple):
    """The images of a class, sorted, and how many files of each other ending lie beside them."""

    images: tuple[str, ...]
    left_out: collections.Counter[str]


@functools.lru_cache(maxsize=4096)  # every stage opens the folder again, and once is enough
def _say_left_out(folder: str, total: int, endings: str) -> None:
    logging.warning(
        "%s: %s left out, whose ending is no image's: %s",
        *(folder, f"{total:,} files" if total > 1 else "1 file", endings),
    )


def _as_text(endings: collections.Counter[str]) -> str:
    return ", ".join(f"{count:,} {ending}" for ending, count in sorted(endings.items()))


def _images_of_class(folder: pathlib.Path, class_name: str) -> _Listing:
    """The files of a class; remembered until its folder changes."""
    path = folder / class_name
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise InputError(f"{path}: cannot be listed ({error.strerror})") from error
    is_fresh = time.time_ns() - changed < _FRESH_SECONDS * 1e9
    listing = _listing.__wrapped__ if is_fresh else _listing
    return listing(str(path), f"{class_name}/", changed)


@functools.lru_cache(maxsize=4096)
def _listing(folder: str, prefix: str, changed: int) -> _Listing:
    del changed  # a part of the key only
    found, others = [], []
    waiting = [(folder, prefix)]
    while waiting:
        path, before = waiting.pop()
        for entry in _entries(path):
            if _is_folder(entry):
                if not entry.is_symlink():
                    waiting.append((entry.path, f"{before}{entry.name}/"))
            elif not is_image_name(entry.name):
                others.append(entry.name)
            elif entry.is_symlink() or entry.is_file():
                found.append(before + entry.name)  # what a broken link is shows when it is opened
    found.sort()
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        wrong = next(name for name in found if not _is_utf8(name))
        raise InputError(
            f"{pathlib.Path(folder).parent}: image {wrong!r}; expected a name in UTF-8"
        ) from None
    return _Listing(tuple(found), count_endings(others))


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry]:
    """What is in a folder, but for what is hidden or was left there by a program."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_stray(entry.name)]
    except OSError as error:
        raise InputError(f"{os.fspath(folder)}: cannot be listed ({error.strerror})") from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # a link to itself
        faults.pass_on(error, entry.path)
        return False


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
