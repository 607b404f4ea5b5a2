"""Which source a data set comes from, and what can be told of one that is not in the table."""

import dataclasses
import difflib
import hashlib
import pathlib
from typing import Literal

import numpy as np

from delt_jax.data.arrays import open_digits, open_npz
from delt_jax.data.cifar_pickles import find_cifar, open_cifar
from delt_jax.data.image_folder import open_image_folder, open_two_folders
from delt_jax.data.image_names import is_stray
from delt_jax.data.image_source import ImageSource
from delt_jax.data.kept import kept
from delt_jax.data.pipeline import measure_statistics
from delt_jax.data.specs import Channels, DatasetSpec, find_spec, get_spec, randaugment_for
from delt_jax.data.tfds_source import open_tfds, parse_source
from delt_jax.errors import InputError
from delt_jax.runtime import strict_json

Split = Literal["train", "test"]

STATISTICS_IMAGES = 2000  # of which statistics are measured, evenly spaced
_PROBES = 16  # images that tell one data set from another, and how large its images are
_SIDES = (224, 128, 64, 32)  # that an image size is chosen from


def open_source(
    spec: DatasetSpec | str,
    source: str,
    split: Split,
    image_size: int | None = None,
) -> ImageSource:
    """Opens one split.

    Args:
      spec: a row of the table, or its name; a name that is not in the table stands for whatever
        `source` holds.
      source: one of
        "" (the digits that scikit-learn brings; TFDS for any other row);
        the path of an `.npz`;
        the path of a folder with train/ and test/ (or val/, valid/, validation/) of class folders;
        "TRAINDIR:TESTDIR", the paths of two folders of class folders, wherever they lie;
        the path of a folder with Parquet files, in it or in its data/, as the Hugging Face Hub has
        them, or of a DatasetDict that its library `datasets` has saved to the disk;
        the path of cifar-10-batches-py or cifar-100-python, or of the folder that it lies in;
        "tfds:NAME[:DATA_DIR]".
      split: "train" or "test".
      image_size: the side at which digits are rendered; None for the row's. Every other source
        serves images as they are.

    Raises:
      InputError: naming what is wrong with the source, in one line.
    """
    known = find_spec(spec) if isinstance(spec, str) else spec
    if known is None and not source:
        known = get_spec(str(spec))  # raises, with the nearest names
    opened = _open(known, source, split, image_size)
    opened.split = split
    if known is not None and len(opened.class_names) != known.num_classes:
        raise InputError(
            f"source {source or known.tfds_name!r} has {len(opened.class_names)} classes; data set "
            f"{known.name!r} has {known.num_classes} (a name of your own takes the source's)"
        )
    return opened


def describe(name: str, source: str, image_size: int | None = None) -> DatasetSpec:
    """Returns the table's row, or derives one from the source for a name that is not in it.

    A derived one has the source's classes, and the statistics of its training images: measured on
    2,000 of them the first time, kept in `delt_jax.runtime.download.cache_folder` for the next.

    Args:
      name: of a row, or a name of one's own.
      source: as in `open_source`.
      image_size: S; None for the row's, or for what the images' short sides suggest: the largest
        of 224, 128, 64 and 32 that half of them reach.

    Raises:
      InputError: for an unknown name without a source, or a source that is wrong.
    """
    if find_spec(name) is None and source:
        opened = _open(None, source, "train", None)
        if not len(opened):
            raise InputError(f"source {source!r}: no training images; expected at least one")
        return derive(name, opened, image_size)
    spec = get_spec(name)
    if image_size is not None and image_size != spec.image_size:
        spec = dataclasses.replace(spec, image_size=image_size)
    return spec


def derive(name: str, opened: ImageSource, image_size: int | None = None) -> DatasetSpec:
    """What can be told of training images that are not in the table; see `describe`.

    Raises:
      InputError: where none of some images can be read.
    """
    sides, fingerprint = _probe(opened)
    if image_size is None:
        image_size = next((side for side in _SIDES if side <= sides[len(sides) // 2]), _SIDES[-1])
    chosen = _evenly_spaced(len(opened), STATISTICS_IMAGES)
    mean, std = kept(
        "statistics",
        f"{fingerprint} {image_size}",
        lambda: np.asarray(measure_statistics(opened, image_size, chosen)),
    )
    std = np.maximum(std, 1 / 255)  # a channel that is the same everywhere is not divided by 0
    return DatasetSpec(
        name,
        len(opened.class_names),
        image_size,
        mean=_channels(mean),
        std=_channels(std),
        class_names=opened.class_names,
        randaugment=randaugment_for(image_size),
    )


def _probe(source: ImageSource) -> tuple[list[int], str]:
    """Sorted short sides of some images, and a hash of them and of all names and labels."""
    digest = hashlib.sha256(strict_json.dumps([source.class_names, source.names]).encode())
    digest.update(source.labels.tobytes())
    sides, error = [], None
    for index in _evenly_spaced(len(source), _PROBES):
        try:
            image = source[int(index)]
        except InputError as unreadable:
            error = unreadable
            continue
        digest.update(image.tobytes())
        sides.append(min(image.shape[:2]))
    if not sides:
        assert error is not None
        raise error
    return sorted(sides), digest.hexdigest()


def _evenly_spaced(total: int, most: int) -> np.ndarray:
    return np.linspace(0, total - 1, min(total, most)).astype(np.int64)


def _channels(values: np.ndarray) -> Channels:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def _open(
    spec: DatasetSpec | None, source: str, split: Split, image_size: int | None
) -> ImageSource:
    if split not in ("train", "test"):
        raise InputError(f"split {split!r}: expected train or test")
    if source.startswith("tfds:"):
        splits = ("train",) if split == "train" else ("test", "validation")
        if spec is not None:
            splits = (spec.train_split,) if split == "train" else (spec.test_split, *splits)
        return open_tfds(*parse_source(source.removeprefix("tfds:")), splits)
    if source:
        return _open_path(spec, source, split)
    assert spec is not None
    if spec.name == "digits":
        return open_digits(split, image_size or spec.image_size)
    if spec.tfds_name is None:
        raise InputError(
            f"data set {spec.name!r}: no source given and TFDS does not have it; expected the path "
            "of a folder with train/ and val/ or with Parquet files, or of an .npz"
        )
    return open_tfds(
        spec.tfds_name, None, (spec.train_split if split == "train" else spec.test_split,)
    )


def _open_path(spec: DatasetSpec | None, source: str, split: Split) -> ImageSource:
    try:
        path = pathlib.Path(source).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long, not to be looked at; nobody's home
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"source {source[:200]!r}: cannot be opened ({reason})") from None
    class_names = None if spec is None else spec.class_names
    if path.is_dir():
        if cifar := find_cifar(path, "" if spec is None else spec.name):
            return open_cifar(*cifar, split)
        if _holds_tables(path):
            from delt_jax.data.parquet import open_parquet  # pyarrow takes half a second to import

            return open_parquet(path, split, class_names, None if spec is None else spec.test_split)
        return open_image_folder(path, split)
    if path.suffix.lower() == ".npz" and path.is_file():
        return open_npz(path, split, class_names)
    if path.exists():
        raise InputError(f"source {source!r}: expected an .npz file or a folder with train/")
    if "://" in source:
        raise InputError(f"source {source!r}: expected a path; mount or copy what lies elsewhere")
    if ":" in source:
        return open_two_folders(*_two_folders(source), split)
    hint = difflib.get_close_matches(path.name, _siblings(path), n=1)
    raise InputError(
        f"source {source!r}: no such file or folder" + (f"; is it {hint[0]!r}?" if hint else "")
    )


def _holds_tables(folder: pathlib.Path) -> bool:
    """Whether a folder is of Parquet files, or was saved by the library `datasets`."""
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return True

    def any_in(pattern: str) -> bool:
        return any(not is_stray(file.name) for file in folder.glob(pattern))

    if any_in("data/*.parquet") or any_in("train/*.parquet"):
        return True
    # Beside a folder train/ of images, a table may say more about them.
    return any_in("*.parquet") and not (folder / "train").is_dir()


def _two_folders(source: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Splits TRAINDIR:TESTDIR at the colon that leaves two folders; a path may hold colons too."""
    colons = [place for place, letter in enumerate(source) if letter == ":"]
    pairs = [
        (pathlib.Path(source[:colon]).expanduser(), pathlib.Path(source[colon + 1 :]).expanduser())
        for colon in colons
        if source[:colon] and source[colon + 1 :]
    ]
    for pair in pairs:
        if all(path.is_dir() for path in pair):
            return pair
    if not pairs:
        raise InputError(f"source {source!r}: expected TRAINDIR:TESTDIR, the paths of two folders")
    missing = next(path for path in pairs[0] if not path.is_dir())
    found = "a file" if missing.exists() else "no such folder"
    raise InputError(
        f"source {source!r}: {str(missing)!r} is {found}; expected TRAINDIR:TESTDIR, two folders "
        "of class folders"
    )


def _siblings(path: pathlib.Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
