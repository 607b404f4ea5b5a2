"""Parquet files as the Hugging Face Hub keeps data sets, read at random, a row group at a time."""

import collections
import dataclasses
import functools
import logging
import pathlib
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt8

from delt_jax.data.arrow_files import ArrowFile, find_saved, is_saved
from delt_jax.data.class_order import in_order_of, text_of
from delt_jax.data.columns import LABEL_COLUMNS, Columns, UnlabelledError, find_columns
from delt_jax.data.decoding import decode
from delt_jax.data.image_names import is_stray
from delt_jax.data.image_source import (
    about_label,
    distinct,
    numbered_classes,
    numbered_names,
)
from delt_jax.errors import InputError
from delt_jax.runtime import faults

# What the two splits may be called, the first that is there and has labels wins.
SPLITS = {"train": ("train",), "test": ("test", "validation", "val", "valid")}

_HELD_BYTES = 256 << 20  # of encoded images in the row groups that are kept


class ParquetSource:
    """Images in the rows of some files; see `delt_jax.data.image_source.ImageSource`.

    Files are mapped into memory by the process that reads them, and only the row groups of the
    latest images are kept, still encoded. So reading in order costs each row group once; reading at
    random costs one (on the Hub mostly 100 images) for each image.

    Args:
      files: in order.
      columns: where image and label are.
      labels: of all rows.
      class_names: in label order.
      split: its name, the beginning of the images' names.
    """

    split: str = ""

    def __init__(
        self,
        files: tuple[pathlib.Path, ...],
        columns: "Columns",
        labels: Int64[np.ndarray, " n"],
        class_names: tuple[str, ...],
        split: str,
    ):
        self._files, self._columns = files, columns
        self.labels = labels
        self.class_names = class_names
        self.names = numbered_names(class_names, labels, f"{split}_")
        rows = []
        self._places: list[tuple[int, int]] = []  # file and number in it of each row group
        for number, file in enumerate(files):
            metadata = _open(file).metadata
            for group in range(metadata.num_row_groups):
                self._places.append((number, group))
                rows.append(metadata.row_group(group).num_rows)
        self._starts = np.cumsum([0, *rows])
        self.__setstate__({})

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        name = self.names[index]
        try:
            image = self._row_group(group)[int(index - self._starts[group])].as_py()
        except (pa.ArrowException, OSError, ValueError) as error:
            file = self._files[self._places[group][0]]
            faults.pass_on(error, str(file))
            reason = _first_line(error)
            raise InputError(f"image {name} in {file}: cannot be read ({reason})") from error
        data = image.get("bytes") if isinstance(image, dict) else image
        if data is None:
            raise InputError(f"image {name}: has no bytes; expected the encoded image in its row")
        return decode(data, name)

    def _row_group(self, group: int) -> pa.ChunkedArray:
        with self._lock:  # Arrow's reader of a file is for one thread at a time
            rows = self._held.pop(group, None)
            if rows is None:
                file, number = self._places[group]
                if file not in self._readers:
                    self._readers[file] = _open(self._files[file])
                columns = [self._columns.image_leaf]
                table = self._readers[file].read_row_group(number, columns, use_threads=False)
                rows = table.column(0)
            self._held[group] = rows
            while len(self._held) > 1 and sum(r.nbytes for r in self._held.values()) > _HELD_BYTES:
                self._held.popitem(last=False)
            return rows

    def __getstate__(self) -> dict[str, Any]:
        own = ("_lock", "_readers", "_held")  # of each process
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._readers: dict[int, pq.ParquetFile | ArrowFile] = {}
        self._held: collections.OrderedDict[int, pa.ChunkedArray] = collections.OrderedDict()


def find_files(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, ...]]:
    """Returns the Parquet files of each split in a folder; nothing where it holds none.

    Those of a folder that `datasets.save_to_disk` has written are Arrow files.

    Looks for `*.parquet` in the folder and in data/, whose names begin with the split's
    (`train-00000-of-00003.parquet`), and for any in a folder of the split's name.
    """
    if is_saved(root):
        return find_saved(root)
    found: dict[str, list[pathlib.Path]] = {}
    words = "|".join(name for names in SPLITS.values() for name in names)
    for file in [*root.glob("*.parquet"), *root.glob("data/*.parquet")]:
        if is_stray(file.name):
            continue
        match = re.search(rf"(?:^|[-_.])({words})(?![A-Za-z])", file.name)
        found.setdefault(match[1] if match else "", []).append(file)
    for file in root.glob("*/*.parquet"):
        if re.fullmatch(words, file.parent.name) and not is_stray(file.name):
            found.setdefault(file.parent.name, []).append(file)
    return {split: tuple(sorted(files)) for split, files in found.items()}


def open_parquet(
    root: pathlib.Path,
    split: str,
    class_names: tuple[str, ...] | None = None,
    test_split: str | None = None,
) -> ParquetSource:
    """Opens one split of a folder of Parquet files.

    Args:
      root: with the files that `find_files` finds. Of their columns are read: a struct with `bytes`
        (or plain bytes), which is the image as a file, and its class: an integer or, where the
        column is called `label` or the like, a text. Texts are numbered in their order.
      split: "train" or "test"; for the latter a split without labels is passed over, and labels
        are those of the training split's classes of the same names.
      class_names: names to use where the files have none (they do in the metadata that the library
        `datasets` writes); None names classes by their number.
      test_split: what the test split is called there; None for the first of `SPLITS`.

    Raises:
      InputError: for anything else, naming the file.
    """
    files = find_files(root)
    choices = [name for name in SPLITS[split] if name in files]
    if split == "test" and test_split in files:
        choices.insert(0, test_split)
    if not choices:
        found = ", ".join(sorted(name or "files of no split" for name in files)) or "nothing"
        raise InputError(
            f"{root}: no {split} split, found {found}; expected {SPLITS[split][0]}-*.parquet in it "
            "or in its data/"
        )
    train = _Rows.read(files["train"]) if split == "test" and "train" in files else None
    chosen, opened = _first_labelled(files, choices, train)
    if train is None:
        train = opened
    else:
        _check_other_files(train.files, opened.files)
        _check_same_kind(train, opened)
    labels = opened.labels
    names = train.class_names or opened.class_names or class_names
    if names is None:
        names = numbered_classes(np.concatenate([labels, train.labels]), str(root))
    if opened.class_names is not None:
        what = f"{opened.files[0]}: {opened.columns.label}"
        labels = in_order_of(labels, opened.class_names, names, what)
    elif labels.max() >= len(names):
        raise InputError(
            f"{opened.files[0]}: label {labels.max()}; expected 0 to {len(names) - 1}, of "
            f"{len(names)} classes ({about_label(int(labels.max()), len(names))})"
        )
    class_names = distinct(names, f"{train.files[0]}: ")
    return ParquetSource(opened.files, opened.columns, labels, class_names, chosen)


def _first_labelled(
    files: Mapping[str, tuple[pathlib.Path, ...]], choices: Sequence[str], train: "_Rows | None"
) -> tuple[str, "_Rows"]:
    """The first of some splits with labels; raises what is wrong with the first where none has."""
    problem = None
    for choice in choices:
        try:
            rows = _Rows.read(files[choice])
            label = rows.columns.label
            is_known = rows.columns.class_names or label.lower() in LABEL_COLUMNS
            if train and label != train.columns.label and not is_known:
                raise UnlabelledError(
                    f"{files[choice][0]}: {label!r} is its only column beside the image; expected "
                    f"{train.columns.label!r} as in {train.files[0]}"
                )
        except UnlabelledError as error:
            problem = problem or error
        else:
            if problem is not None:
                _say_passed_over(str(problem), choice)
            return choice, rows
    assert problem is not None
    raise problem


@functools.cache  # every stage opens the files again, and once is enough
def _say_passed_over(problem: str, chosen: str) -> None:
    logging.warning("%s; passed over, %s is the test split", problem, chosen)


def _check_other_files(train: tuple[pathlib.Path, ...], test: tuple[pathlib.Path, ...]) -> None:
    """Refuses test files that are links to training files."""
    known = {file.resolve(): file for file in train}
    for file in test:
        if (other := known.get(file.resolve())) is not None:
            raise InputError(
                f"{file} and {other} are the same file; expected test images that are no training "
                "images"
            )


def _check_same_kind(train: "_Rows", test: "_Rows") -> None:
    """Refuses names on one side and numbers without names on the other: nothing matches them."""
    for rows, other in ((train, test), (test, train)):
        if rows.columns.is_text and other.class_names is None:
            raise InputError(
                f"{other.files[0]}: {other.columns.label} has numbers without names, and in "
                f"{rows.files[0]} names; expected names in both, or numbers in both"
            )


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The labels of a split, and what its own files call the classes; None where they do not."""

    files: tuple[pathlib.Path, ...]
    columns: Columns
    labels: Int64[np.ndarray, " n"]
    class_names: tuple[str, ...] | None

    @classmethod
    def read(cls, files: tuple[pathlib.Path, ...]) -> "_Rows":
        columns, parts = None, []
        for file in files:
            reader = _open(file)
            found = find_columns(reader.schema_arrow, file)
            columns = columns or found
            if found != columns:
                raise InputError(
                    f"{file}: columns {found}; expected those of {files[0]}, {columns}"
                )
            try:
                column = reader.read([columns.label]).column(0)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(file, error) from error
            if column.null_count:
                is_whole = column.null_count == len(column)
                raise (UnlabelledError if is_whole else InputError)(
                    f"{file}: {column.null_count} rows without a {columns.label}"
                )
            parts.append(_texts(column) if columns.is_text else column.to_numpy().astype(np.int64))
        assert columns is not None
        labels, names = np.concatenate(parts), columns.class_names
        if columns.is_text:
            texts, labels = np.unique(labels, return_inverse=True)
            names, labels = tuple(map(str, texts)), labels.astype(np.int64)
        if not labels.size or labels.min() < 0:
            found = f"label {labels.min()}" if labels.size else "no rows"
            raise UnlabelledError(
                f"{files[0]}: {found}; expected labels from 0"
                + (" (-1 mostly stands for no label)" if found == "label -1" else "")
            )
        if names is not None and labels.max() >= len(names):
            raise InputError(
                f"{files[0]}: label {labels.max()}; expected 0 to {len(names) - 1}, of "
                f"{len(names)} classes ({about_label(int(labels.max()), len(names))})"
            )
        return cls(files, columns, labels, names)


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    """Class names, one form of each; of a dictionary, too, as categories are stored."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
    return np.asarray([text_of(name) for name in column.to_pylist()], dtype=object)


def _open(file: pathlib.Path) -> pq.ParquetFile | ArrowFile:
    try:
        if file.suffix == ".arrow":
            return ArrowFile(file)
        reader = pq.ParquetFile(file, memory_map=True, pre_buffer=False)
        reader.schema_arrow.to_string()  # names and metadata are decoded, which may fail too
        return reader
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(file, error) from error


def _damaged(file: pathlib.Path, error: Exception) -> InputError:
    """What to raise of a file; another error where the machine has failed and not the file."""
    faults.pass_on(error, str(file))
    kind = "Arrow" if file.suffix == ".arrow" else "Parquet"
    return InputError(f"{file}: cannot be read as {kind} ({_first_line(error)})")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
