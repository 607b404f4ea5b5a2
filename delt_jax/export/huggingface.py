"""Hugging Face `datasets`: Parquet files that say what their columns are, and a dataset card."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from delt_jax.export.distilled_set import DistilledSet
from delt_jax.runtime import strict_json

LOADING = """
import datasets
# From elsewhere: load_dataset("path/of/the/folder"), or its name on the Hub once it is there.
train = datasets.load_dataset("parquet", data_files="data/train-*.parquet", split="train")
train[0]["image"], train[0]["label"]  # a PIL image, int
train.features["label"].int2str(train[0]["label"])
train.with_format("torch")[:8]["image"]  # uint8, 3 x h x w
"""
MEGABYTE = 1_000_000
_ROWS = 100  # of a row group, as most data sets of the Hub have it


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes `data/train-00000-of-00001.parquet` and so on.

    The columns are `image` (the file's bytes, and its name) and `label`; the schema's metadata
    calls them `Image` and `ClassLabel`, with the classes' names, as `datasets` itself writes it.

    Args:
      source: its images are stored as the files that they are, in their order.
      destination: a new folder.
      options: reads `encoding`, `quality` and `shard_megabytes`, after which a file ends.
    """
    pa = importlib.import_module("pyarrow")  # not at the top: a tenth of a second at every start
    pq = importlib.import_module("pyarrow.parquet")
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(source.class_names)},
    }
    schema = pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
        },
        metadata={"huggingface": strict_json.dumps({"info": {"features": features}})},
    )
    folder = destination / "data"
    folder.mkdir()
    most = options["shard_megabytes"] * MEGABYTE
    parts: list[pathlib.Path] = []
    rows: list[dict[str, Any]] = []
    writer, written = None, 0
    last = len(source.records) - 1
    for number, (record, data) in enumerate(source.files(options["encoding"], options["quality"])):
        name = pathlib.PurePosixPath(record.file).name
        rows.append({"image": {"bytes": data, "path": name}, "label": record.class_index})
        written += len(data)
        ends = number == last or written >= most
        if writer is None:
            parts.append(folder / f"{len(parts)}.parquet")
            writer = pq.ParquetWriter(parts[-1], schema)
        if len(rows) == _ROWS or ends:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows = []
        if ends:
            writer.close()
            writer, written = None, 0
    for number, part in enumerate(parts):  # how many there are is known only now
        part.rename(folder / f"train-{number:05d}-of-{len(parts):05d}.parquet")


def front_matter(source: DistilledSet) -> str:
    """The YAML that the Hugging Face Hub reads: configuration and features of Parquet files."""
    # JSON's texts and lists are YAML's, so that no name of a class can end one.
    features = {
        "features": [
            {"name": "image", "dtype": "image"},
            {
                "name": "label",
                "dtype": {
                    "class_label": {
                        "names": {str(k): name for k, name in enumerate(source.class_names)}
                    }
                },
            },
        ],
        "splits": [{"name": "train", "num_examples": len(source.records)}],
    }
    entries = {
        "pretty_name": f"{source.header.get('data', 'data set')}, distilled",
        "license": "other",
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "delt"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
        ],
        "dataset_info": features,
    }
    lines = [f"{name}: {strict_json.dumps(value)}" for name, value in entries.items()]
    return "\n".join(["---", *lines, "---", "", ""])
