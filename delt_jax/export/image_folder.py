"""The distilled set as an ImageFolder: `train/<class>/class<k>_id<slot>.png` or `.jpg`."""

import dataclasses
import hashlib
import io
import itertools
import pathlib
import re
import unicodedata
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image

from delt_jax.data.decoding import decode
from delt_jax.data.threads import for_each
from delt_jax.errors import InputError
from delt_jax.export.manifest import ImageRecord, read_file, read_manifest
from delt_jax.runtime.workdir import WorkDir

FORMATS = ("png", "jpg")
ROUNDINGS = ("truncate", "nearest")
NAMINGS = ("class", "reference")


def write_images(
    directory: pathlib.Path,
    pixels: Float[np.ndarray, "n h w 3"] | UInt8[np.ndarray, "n h w 3"],
    records: Sequence[ImageRecord],
    *,
    format: str = "png",  # noqa: A002
    quality: int = 75,
    rounding: str = "nearest",
    naming: str = "class",
    class_names: Sequence[str] | None = None,
) -> tuple[ImageRecord, ...]:
    """Writes images, each whole or not at all, and says what it wrote.

    Args:
      directory: the distilled set; its `train/` is written to.
      pixels: in [0, 1], or uint8, which is written as it is.
      records: what each image is; `file` and `sha256` are filled in.
      format: "png", lossless, or "jpg".
      quality: of JPEG alone, 1 to 95. NOTE(parity): the published code saves JPEG with Pillow's
        default, 75.
      rounding: "nearest", or NOTE(parity): "truncate" as the published code (VILA-Lab/DELT
        recover/recover.py at f2f81ca, `save_images`), which darkens by half a level on average.
      naming: of the class folders, see `class_folders`.
      class_names: of all classes in label order; needed to name folders without their number, or
        beyond 1,000 classes.

    Returns:
      The records, completed.

    Raises:
      InputError: for an unknown option, or pixels that are not what they should be.
    """
    _one_of("format", format, FORMATS)
    _one_of("rounding", rounding, ROUNDINGS)
    _one_of("naming", naming, NAMINGS)
    if not 1 <= quality <= 95:
        raise InputError(f"JPEG quality {quality}: expected 1 to 95")
    if len(pixels) != len(records):
        raise InputError(f"{len(pixels)} images for {len(records)} records: expected one each")
    folders = None if class_names is None else class_folders(class_names, naming)
    images = to_uint8(np.asarray(pixels), rounding)
    written = []
    for image, record in zip(images, records, strict=True):
        folder = (
            folders[record.class_index]
            if folders is not None
            else _numbered(record.class_index, record.class_name, naming)
        )
        written.append(
            write_file(directory, record, folder, f".{format}", encode(image, format, quality))
        )
    return tuple(written)


def class_folders(class_names: Sequence[str], naming: str = "class") -> tuple[str, ...]:
    """Names the folder of each class so that sorting the folders gives the labels back.

    Libraries that read an ImageFolder number the classes by sorting their folders, each in its own
    way. "class" takes the names themselves where every way gives the labels, as with WordNet ids,
    and else puts the number first; "reference" gives the published code's `new000`, `new001`, ...

    What a file system may not like in a name becomes "_", so no name can lead out of the folder.

    >>> class_folders(["airplane", "bird"]), class_folders(["cat", "a/b"])
    (('airplane', 'bird'), ('000_cat', '001_a_b'))
    >>> class_folders(["1", "10", "2"])  # timm would read 1, 2, 10
    ('000_1', '001_10', '002_2')
    """
    _one_of("naming", naming, NAMINGS)
    if naming == "class":
        plain = tuple(map(_sanitised, class_names))
        if all(_ascends([key(name) for name in plain]) for key in _ORDERS):
            return plain
    digits = max(3, len(str(len(class_names) - 1)))
    return tuple(_numbered(index, name, naming, digits) for index, name in enumerate(class_names))


def to_uint8(pixels: np.ndarray, rounding: str) -> UInt8[np.ndarray, "n h w 3"]:
    """Returns pixels in [0, 1] as bytes, rounded as in `write_images`; bytes stay as they are."""
    if pixels.ndim != 4 or pixels.shape[-1] != 3:
        raise InputError(f"images of shape {pixels.shape}: expected [n, h, w, 3]")
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(f"images of dtype {pixels.dtype}: expected floats in [0, 1], or uint8")
    # Clipped images denormalise to a few rounding errors outside; more is another unit.
    if not (pixels.min(initial=0) >= -1e-3 and pixels.max(initial=0) <= 1 + 1e-3):
        raise InputError(
            f"images from {pixels.min():.4g} to {pixels.max():.4g}: expected pixels in [0, 1]"
        )
    scaled = np.clip(pixels, 0, 1) * 255
    return (scaled if rounding == "truncate" else np.rint(scaled)).astype(np.uint8)


def encode(image: UInt8[np.ndarray, "h w 3"], encoding: str, quality: int = 75) -> bytes:
    """Returns the bytes of an image file in one of `FORMATS`."""
    buffer = io.BytesIO()
    options = {"quality": quality} if encoding == "jpg" else {}
    Image.fromarray(image).save(buffer, {"jpg": "JPEG", "png": "PNG"}[encoding], **options)
    return buffer.getvalue()


# Shared images that somebody in this process still uses, by the state of their files.
_shared: weakref.WeakValueDictionary[str, np.ndarray] = weakref.WeakValueDictionary()


def read_distilled(
    directory: pathlib.Path, *, shared: bool = False
) -> tuple[UInt8[np.ndarray, "n s s 3"], Int64[np.ndarray, " n"], tuple[ImageRecord, ...]]:
    """Reads a distilled set back, by class and slot, checking each file's hash.

    All cores decode, straight into the array that is returned.

    Args:
      directory: of the set, with its manifest.
      shared: whether the caller only reads the images. It then gets those that it or another has
        read before and still uses, if no file has changed since, and cannot write to them.

    Returns:
      (images, labels, records).

    Raises:
      InputError: naming the manifest or image that is missing, changed or of another size.
    """
    records = read_manifest(directory).records
    if not records:
        raise InputError(f"{directory}: the manifest names no image; expected at least one")
    state = _state_of_files(directory, records) if shared else ""
    images = _shared.get(state)
    if images is None:
        images = _decode_all(directory, records)
        if shared:
            images.flags.writeable = False
            _shared[state] = images
    labels = np.asarray([record.class_index for record in records], np.int64)
    return images, labels, records


def _decode_all(
    directory: pathlib.Path, records: Sequence[ImageRecord]
) -> UInt8[np.ndarray, "n s s 3"]:
    """Decodes every image into its place, so that the pixels are in memory once."""
    first = decode(read_file(directory, records[0]), records[0].file)
    images = np.empty((len(records), *first.shape), np.uint8)

    def read(place: int) -> None:
        record = records[place]
        image = decode(read_file(directory, record), record.file)
        if image.shape != first.shape:
            raise InputError(
                f"{directory / record.file}: {image.shape[1]} x {image.shape[0]} pixels; expected "
                f"{first.shape[1]} x {first.shape[0]} as the first image"
            )
        images[place] = image

    for_each(len(records), read)
    return images


def _state_of_files(directory: pathlib.Path, records: Sequence[ImageRecord]) -> str:
    """Returns a hash that changes when one of the files does."""
    digest = hashlib.sha256(str(directory.resolve()).encode())
    for record in records:
        try:
            found = (directory / record.file).stat()
            size, written = found.st_size, found.st_mtime_ns
        except OSError:  # reading says what is wrong
            size = written = -1
        digest.update(f"{record.file} {record.sha256} {size} {written}\n".encode())
    return digest.hexdigest()


def write_file(
    directory: pathlib.Path, record: ImageRecord, folder: str, suffix: str, data: bytes
) -> ImageRecord:
    """Writes an image file into the folder of its class; returns its record, completed."""
    file = f"train/{folder}/class{record.class_index:03d}_id{record.slot:03d}{suffix}"
    WorkDir(directory).write_bytes(directory / file, data)
    return dataclasses.replace(record, file=file, sha256=hashlib.sha256(data).hexdigest())


def _numbered(index: int, class_name: str, naming: str, digits: int = 3) -> str:
    number = f"{index:0{digits}d}"
    return f"new{number}" if naming == "reference" else f"{number}_{_sanitised(class_name)}"


def _natural(name: str) -> list[str | int]:
    """The key by which timm sorts class folders: numbers by their value, letters without case."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


# The orders in which class folders are read. By code points: torchvision, `datasets`, TFDS, Keras
# and this package. The other forms are what some file systems make of names.
_ORDERS = (str, _natural, str.casefold, lambda name: unicodedata.normalize("NFD", name))


def _ascends(keys: Sequence[Any]) -> bool:
    return all(one < other for one, other in itertools.pairwise(keys))


# Windows opens devices by these names, whatever ending follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

# A folder with such a word in its name is a split to `datasets` (4.0), in lower case alone.
_SPLIT_WORDS = re.compile(
    r"(?<![^\W\d_])(train(ing)?|val(id(ation)?)?|dev|test(ing)?|eval(uation)?)(?![^\W\d_])"
)


def _sanitised(class_name: str) -> str:
    name = unicodedata.normalize("NFC", class_name)
    name = re.sub(r"[^\w\-. ]", "_", name).strip(". ")
    # timm takes superscripts and the like for numbers, and fails.
    name = "".join("_" if c.isdigit() and not c.isdecimal() else c for c in name)
    name = _SPLIT_WORDS.sub(lambda word: word[0].upper(), name)
    if name.startswith("-") or _DEVICES.fullmatch(name):  # programs take the first for an option
        name = f"_{name}"
    # 100 characters of up to two bytes leave room for a number within the 255 bytes of a name.
    while len(name.encode()) > 200:
        name = name[:-1]
    return name or "class"


def _one_of(what: str, value: str, expected: Sequence[str]) -> None:
    if value not in expected:
        raise InputError(f"{what} {value!r}: expected one of {', '.join(expected)}")
