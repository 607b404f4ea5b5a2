"""array_record for Grain: a folder as TensorFlow Datasets prepares them, without TensorFlow."""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from delt_jax.data.decoding import decode
from delt_jax.data.image_source import distinct
from delt_jax.export.distilled_set import DistilledSet
from delt_jax.runtime import strict_json

NAME, SPLIT = "distilled", "train"
LOADING = """
import grain, tensorflow_datasets as tfds
examples = tfds.builder_from_directory(".").as_data_source("train")
batches = grain.MapDataset.source(examples).shuffle(seed=0).repeat().batch(32)
images, labels = batches[0]["image"], batches[0]["label"]  # uint8 [b, h, w, 3], int64 [b]
"""


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes one file of `tf.train.Example` records, and what TFDS needs to decode them.

    Args:
      source: its images are stored as the files that they are, in their order.
      destination: a new folder.
      options: reads `encoding` and `quality`.
    """
    tfds = importlib.import_module("tensorflow_datasets")  # not at the top: half a second
    array_record = importlib.import_module("array_record.python.array_record_module")
    proto = importlib.import_module("tensorflow_datasets.proto").tf_example_pb2
    first, data = source.file(0)
    shape = decode(data, first.file).shape
    # One name a line in the file that TFDS keeps them in.
    names = list(distinct(" ".join(name.split()) or "class" for name in source.class_names))
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(names=names),
        }
    )
    features.save_config(str(destination))
    file = destination / f"{NAME}-{SPLIT}.array_record-00000-of-00001"
    # One record a group: Grain reads at random.
    writer = array_record.ArrayRecordWriter(str(file), "group_size:1")
    size = 0
    try:
        for record, data in source.files(options["encoding"], options["quality"]):
            example = proto.Example()
            example.features.feature["image"].bytes_list.value.append(data)
            example.features.feature["label"].int64_list.value.append(record.class_index)
            serialised = example.SerializeToString(deterministic=True)
            size += len(serialised)
            writer.write(serialised)
    finally:
        writer.close()
    split = {
        "name": SPLIT,
        "numBytes": str(size),
        "shardLengths": [str(len(source.records))],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {
        "name": NAME,
        "version": "1.0.0",
        "fileFormat": "array_record",
        "splits": [split],
    }
    (destination / "dataset_info.json").write_text(
        strict_json.dumps(info, indent=2), encoding="utf-8"
    )
