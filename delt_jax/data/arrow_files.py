"""Folders that `datasets.save_to_disk` writes: a folder of Arrow files for each split."""

import json
import pathlib
from typing import Any

import pyarrow as pa

from delt_jax.data.image_names import is_stray
from delt_jax.errors import InputError


def is_saved(root: pathlib.Path) -> bool:
    """Says whether a folder is a DatasetDict or a Dataset that was saved to the disk."""
    return any((root / name).is_file() for name in ("dataset_dict.json", "state.json"))


def find_saved(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, ...]]:
    """Returns the Arrow files of each split.

    Raises:
      InputError: where the folder is a single Dataset, or one that chooses rows by another file.
    """
    if (root / "state.json").is_file():
        raise InputError(
            f"{root}: a single Dataset of save_to_disk; expected a DatasetDict with train and test "
            "(dataset.train_test_split(test_size=0.1).save_to_disk(FOLDER))"
        )
    found = {}
    for state in root.glob("*/state.json"):
        if not is_stray(state.parent.name):
            found[state.parent.name] = tuple(state.parent / name for name in _files(state))
    return found


def _files(state: pathlib.Path) -> list[str]:
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        names = [str(entry["filename"]) for entry in content["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{state}: cannot be read as that of save_to_disk ({error})") from error
    if content.get("_indices_data_files"):
        raise InputError(
            f"{state}: rows chosen by an indices file; expected whole rows "
            "(load_from_disk(FOLDER).flatten_indices().save_to_disk(OTHER))"
        )
    if not names or any(pathlib.PurePath(name).name != name for name in names):
        raise InputError(f"{state}: files {names}; expected names of files beside it")
    return names


class ArrowFile:
    """An Arrow stream in the few words of `pyarrow.parquet.ParquetFile` that we use.

    The file is mapped into memory. Its record batches are what row groups are there.

    Raises:
      pyarrow.ArrowException, OSError: where it is damaged.
    """

    def __init__(self, file: pathlib.Path):
        with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
            self.schema_arrow = stream.schema
            self._batches = list(stream)
        for batch in self._batches:
            batch.validate(full=True)  # offsets of a damaged file lead anywhere

    @property
    def metadata(self) -> "ArrowFile":
        """Itself: it counts its row groups."""
        return self

    @property
    def num_row_groups(self) -> int:
        """How many record batches there are."""
        return len(self._batches)

    def row_group(self, number: int) -> pa.RecordBatch:
        """A record batch, which counts its rows."""
        return self._batches[number]

    def read(self, columns: list[str]) -> pa.Table:
        """Some columns of all rows."""
        return pa.Table.from_batches(self._batches, self.schema_arrow).select(columns)

    def read_row_group(self, number: int, columns: list[str], **_: Any) -> pa.Table:
        """Some columns of a record batch; of a struct, all of it."""
        names = [
            name if name in self.schema_arrow.names else name.rpartition(".")[0] for name in columns
        ]
        return pa.Table.from_batches([self._batches[number]]).select(names)
