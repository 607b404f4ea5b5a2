"""TensorFlow Datasets without TensorFlow: what `tfds` prepared as array_record, read at random."""

import importlib
import re
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from delt_jax.data.decoding import decode
from delt_jax.data.image_source import distinct, numbered_names
from delt_jax.data.kept import kept
from delt_jax.errors import InputError
from delt_jax.runtime.progress import Progress

_SOURCE = re.compile(r"(?P<name>[^:]+(:\d+\.\d+\.\d+)?)(:(?P<data_dir>.+))?")
_LABEL_CHUNK = 1024  # examples read at once to learn their labels


class TfdsSource:
    """Examples decoded one at a time; see `delt_jax.data.image_source.ImageSource`.

    Images are decoded by `delt_jax.data.decoding`, so they are those of the same files in a folder.

    Args:
      examples: a random-access sequence of `{"image": encoded bytes, "label": integer}`.
      labels: of all examples.
      class_names: in label order.
      split: its name, the beginning of the images' names.
      first: number of the first example in that split.
    """

    split: str = ""

    def __init__(
        self,
        examples: Any,
        labels: Int64[np.ndarray, " n"],
        class_names: tuple[str, ...],
        split: str,
        first: int = 0,
    ):
        self._examples = examples
        self.class_names = class_names
        self.labels = labels
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
            raise InputError(
                f"tfds split {split!r}: labels from {labels.min()} to {labels.max()}; "
                f"expected 0 to {len(class_names) - 1}"
            )
        self.names = numbered_names(class_names, labels, f"{split}_", first)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return decode(self._examples[int(index)]["image"], self.names[index])


def parse_source(source: str) -> tuple[str, str | None]:
    """Splits `NAME[/CONFIG][:VERSION][:DATA_DIR]` into the name (with version) and the folder.

    >>> parse_source("imagenette/320px-v2:1.0.0:/data/tfds")
    ('imagenette/320px-v2:1.0.0', '/data/tfds')
    """
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise InputError(f"source 'tfds:{source}': expected tfds:NAME[:DATA_DIR]")
    return match["name"], match["data_dir"]


def open_tfds(name: str, data_dir: str | None, splits: tuple[str, ...]) -> TfdsSource:
    """Opens one split of a prepared data set; downloads and prepares nothing.

    Args:
      name: `NAME[/CONFIG][:VERSION]` in TensorFlow Datasets.
      data_dir: the folder it was prepared in; None for TFDS's own (`TFDS_DATA_DIR`).
      splits: what the split may be called there; the first that is there is opened. A part of one
        is written as TFDS has it, "train[:85%]".

    Raises:
      InputError: for an unknown name or split, a data set without image and label, and one that is
        not prepared, saying how to.
    """
    tfds = importlib.import_module("tensorflow_datasets")  # not at the top: half a second
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises four kinds for a name, config or version it lacks
        raise InputError(f"tfds:{name}: {str(error).splitlines()[0]}") from error
    found = sorted(builder.info.splits)
    if not found:
        where = data_dir or builder.data_path.parent.parent
        option = f" --data_dir={data_dir}" if data_dir else ""
        raise InputError(
            f"tfds:{name}: not prepared in {where}; run `pip install "
            f"-e '.[prepare]' && tfds build {name} --file_format=array_record{option}`, or give "
            "a folder as the source"
        )
    split = next((split for split in splits if split.partition("[")[0] in found), None)
    if split is None:
        raise InputError(f"tfds:{name}: found {', '.join(found)}; expected {' or '.join(splits)}")
    features = dict(getattr(builder.info.features, "items", tuple)())
    label = features.get("label")
    if label is None or "image" not in features or not hasattr(label, "names"):
        found = ", ".join(features) or "no names"
        raise InputError(f"tfds:{name}: features {found}; expected an image and a class label")
    try:
        examples = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
    except NotImplementedError:
        raise InputError(
            f"tfds:{name}: prepared in {builder.data_path} in a format for reading in sequence; "
            "expected array_record: run `pip install -e '.[prepare]' && tfds convert_format "
            f"--dataset_version_dir={builder.data_path} --out_file_format=array_record`"
        ) from None
    # The labels lie beside the images, in the same records: for ImageNet a long pass, made once.
    stamp = (builder.data_path / "dataset_info.json").stat()
    identity = f"{builder.data_path} {split} {len(examples)} {stamp.mtime} {stamp.length}"
    labels = kept("labels", identity, lambda: _read_labels(examples, name))
    (part,) = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    class_names = distinct(map(str, label.names))
    return TfdsSource(examples, labels, class_names, split.partition("[")[0], part.from_ or 0)


def _read_labels(examples: Any, name: str) -> Int64[np.ndarray, " n"]:
    labels = np.zeros(len(examples), np.int64)
    with Progress(len(examples), f"reading the labels of {name}, once", unit="images") as bar:
        for start in range(0, len(examples), _LABEL_CHUNK):
            chunk = list(range(start, min(start + _LABEL_CHUNK, len(examples))))
            labels[chunk] = [example["label"] for example in examples.__getitems__(chunk)]
            bar.advance(len(chunk))
    return labels
