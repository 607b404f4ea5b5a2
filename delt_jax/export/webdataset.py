"""WebDataset: tar shards that are read in sequence, an image and its class a sample."""

import io
import pathlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from delt_jax.export.distilled_set import DistilledSet
from delt_jax.runtime import strict_json

LOADING = """
import glob, webdataset
shards = sorted(glob.glob("train-*.tar"))
samples = webdataset.WebDataset(shards, shardshuffle=False).shuffle(1000).decode("torchrgb")
for image, label in samples.to_tuple("png;jpg", "cls"):  # float32 [3, h, w] in [0, 1], int
    ...
"""
ORDER_SEED = 0
MEGABYTE = 1_000_000


def write(source: DistilledSet, destination: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Writes `train-000000.tar` and so on; a sample holds `.png` or `.jpg`, `.cls` and `.json`.

    Samples lie in an order shuffled once: what is read in sequence and shuffled a thousand at a
    time would else give batches of few classes. `.json` has the number in the manifest, class name
    and slot. The bytes are the same for the same set: no times, no owners.

    Args:
      source: its images are stored as the files that they are.
      destination: a new folder.
      options: reads `encoding`, `quality` and `shard_megabytes`, after which a shard ends.
    """
    most = options["shard_megabytes"] * MEGABYTE
    shard, tar = 0, None
    try:
        for members in _samples(source, options):
            if tar is None:
                tar = tarfile.open(destination / f"train-{shard:06d}.tar", "w")  # noqa: SIM115
            for name, data in members:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            if tar.offset >= most:
                tar.close()
                shard, tar = shard + 1, None
    finally:
        if tar is not None:
            tar.close()


def _samples(source: DistilledSet, options: Mapping[str, Any]) -> Iterator[list[tuple[str, bytes]]]:
    """Names and bytes of each sample's files."""
    order = np.random.RandomState(ORDER_SEED).permutation(len(source.records)).tolist()
    for number in order:
        record, data = source.file(number, options["encoding"], options["quality"])
        about = {
            "number": number,
            "class_name": record.class_name,
            "slot": record.slot,
        }
        key = f"class{record.class_index:03d}_id{record.slot:03d}"
        suffix = pathlib.PurePosixPath(record.file).suffix
        yield [
            (f"{key}.cls", str(record.class_index).encode()),
            (f"{key}.json", strict_json.dumps(about, ensure_ascii=False).encode()),
            (f"{key}{suffix}", data),
        ]
