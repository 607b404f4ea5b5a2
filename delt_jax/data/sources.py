"""Real images behind one small interface, chosen by what the config's source is."""

import dataclasses
import difflib
import pathlib
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.data.arrays import open_digits, open_npz
from delt_jax.data.image_folder import open_image_folder
from delt_jax.data.specs import SPECS, DatasetSpec, get_spec
from delt_jax.data.tfds_source import open_tfds, parse_source
from delt_jax.errors import InputError

Split = Literal["train", "test"]


class ImageSource(Protocol):
    """One split of a data set, read at random.

    Attributes:
      labels: class of each image.
      names: "class/file" of each image: relative, unique, the same in every run. What ranking.csv
        and manifest.json call it.
      class_names: in label order.
    """

    labels: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns image `index` as RGB of any size; raises `InputError` if it cannot be read."""
        ...


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
      source: "" (the digits that scikit-learn brings; TFDS for any other row), the path of an
        `.npz` or of a folder with train/ and test/, or "tfds:NAME[:DATA_DIR]".
      split: "train" or "test".
      image_size: the side at which digits are rendered; None for the row's. Every other source
        serves images as they are.

    Raises:
      InputError: naming what is wrong with the source, in one line.
    """
    known = SPECS.get(spec) if isinstance(spec, str) else spec
    if known is None and not source:
        known = get_spec(str(spec))  # raises, with the nearest names
    opened = _open(known, source, split, image_size)
    if known is not None and len(opened.class_names) != known.num_classes:
        raise InputError(
            f"source {source or known.tfds_name!r} has {len(opened.class_names)} classes; data set "
            f"{known.name!r} has {known.num_classes} (a name of your own takes the source's)"
        )
    return opened


def describe(name: str, source: str, image_size: int | None = None) -> DatasetSpec:
    """Returns the table's row, or derives one from the source for a name that is not in it.

    Args:
      name: of a row, or a name of one's own.
      source: as in `open_source`.
      image_size: S; None for the row's, or for what the first image's short side suggests: the
        largest of 224, 128, 64 and 32 that it reaches.

    Returns:
      The spec; a derived one has the ImageNet statistics.

    Raises:
      InputError: for an unknown name without a source, or a source that is wrong.
    """
    if name in SPECS or not source:
        spec = get_spec(name)
    else:
        opened = _open(None, source, "train", None)
        short_side = min(opened[0].shape[:2])
        fitting = [side for side in (224, 128, 64, 32) if side <= short_side]
        side = fitting[0] if fitting else 32
        spec = DatasetSpec(name, len(opened.class_names), side, class_names=opened.class_names)
    if image_size is not None and image_size != spec.image_size:
        spec = dataclasses.replace(spec, image_size=image_size)
    return spec


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
        path = pathlib.Path(source).expanduser()
        if path.is_dir():
            return open_image_folder(path, split)
        if path.suffix.lower() == ".npz" and path.is_file():
            return open_npz(path, split, None if spec is None else spec.class_names)
        if path.exists():
            raise InputError(f"source {source!r}: expected an .npz file or a folder with train/")
        hint = difflib.get_close_matches(path.name, _siblings(path), n=1)
        raise InputError(
            f"source {source!r}: no such file or folder" + (f"; is it {hint[0]!r}?" if hint else "")
        )
    assert spec is not None
    if spec.name == "digits":
        return open_digits(split, image_size or spec.image_size)
    if spec.tfds_name is None:
        raise InputError(
            f"data set {spec.name!r}: no source given and TFDS does not have it; expected the path "
            "of a folder with train/ and val/, or of an .npz"
        )
    return open_tfds(
        spec.tfds_name, None, (spec.train_split if split == "train" else spec.test_split,)
    )


def _siblings(path: pathlib.Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
