"""manifest.json: what every image of a distilled set is, where it came from, and its hash."""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from delt_jax.data.image_names import is_stray
from delt_jax.data.specs import moments
from delt_jax.errors import InputError, in_one_line
from delt_jax.runtime import strict_json
from delt_jax.runtime.workdir import WorkDir

FILE_NAME = "manifest.json"
SCHEMA = 1
EXPORT = "export"  # entry of the header that exports alone have: {format, delt_jax, options}
_OURS = re.compile(r"class\d+_id\d+\.(png|jpg)")  # what `image_folder` names the files it writes


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """One image of a distilled set.

    Attributes:
      class_index: its label.
      class_name: the name of that class.
      slot: rank in its class, from 0; the lowest joined first.
      join_round: the round in which its optimisation began.
      iterations: how many it was optimised for.
      source: name of the real image it began as, or of a mosaic's first cell; "" where it began as
        none.
      sources: names of the images of a mosaic's cells, row by row; () where it is none.
      boxes: top, left, height and width of the patch that was cut out of each image, in its pixels;
        () for whole images.
      file: path below the distilled set, with forward slashes; "" until it is written.
      sha256: of the file's bytes, in hexadecimal.
    """

    class_index: int
    class_name: str
    slot: int
    join_round: int = 0
    iterations: int = 0
    source: str = ""
    sources: tuple[str, ...] = ()
    boxes: tuple[tuple[int, ...], ...] = ()
    file: str = ""
    sha256: str = ""

    def __post_init__(self):
        # Lists where it comes from JSON.
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "boxes", tuple(map(tuple, self.boxes)))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A distilled set as its manifest tells it; `header` holds method, settings and teacher."""

    header: dict[str, Any]
    records: tuple[ImageRecord, ...]


def write_manifest(
    directory: pathlib.Path, records: Sequence[ImageRecord], header: Mapping[str, Any]
) -> pathlib.Path:
    """Writes the manifest, sorted by class and slot, and makes the folder hold that set alone.

    Image files of ours below `train/` that no record names (an earlier run with other settings left
    them) are deleted, lest whoever reads the folder without the manifest takes them for the set's.

    Args:
      directory: the distilled set.
      records: as `image_folder.write_images` returned them, of every class, in any order.
      header: JSON values: method, settings, what the teacher's card says.

    Returns:
      The path of the manifest.

    Raises:
      InputError: where two records are for the same class and slot, or one was never written.
    """
    records = sorted(records, key=lambda record: (record.class_index, record.slot))
    for before, record in zip([None, *records], records, strict=False):
        where = f"class {record.class_index} slot {record.slot}"
        if before and (before.class_index, before.slot) == (record.class_index, record.slot):
            raise InputError(f"{directory}: {where} is recorded twice; expected once")
        if not record.file:
            raise InputError(f"{directory}: {where} has no file; expected a written image")
    named = {record.file for record in records}
    for path in (directory / "train").glob("*/*"):
        if _OURS.fullmatch(path.name) and path.relative_to(directory).as_posix() not in named:
            path.unlink()
    value = {
        "schema": SCHEMA,
        **header,
        "images": [_as_json(record) for record in records],
    }
    WorkDir(directory).write_json(directory / FILE_NAME, value)
    return directory / FILE_NAME


def read_manifest(directory: pathlib.Path) -> Manifest:
    """Reads the manifest of a distilled set.

    Raises:
      InputError: where there is none, or it is not one of ours.
    """
    path = directory / FILE_NAME
    value = WorkDir(directory).read_json(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{path}: schema {found!r}; expected {SCHEMA}")
    try:
        records = tuple(ImageRecord(**record) for record in value["images"])
    except (TypeError, KeyError) as error:
        raise InputError(f"{path}: not a list of images ({error})") from None
    for record in records:
        _check_types(record, path)
        if not is_inside(record.file):
            raise InputError(f"{path}: file {record.file!r}; expected a path below the manifest's")
    header = {key: entry for key, entry in value.items() if key not in ("schema", "images")}
    _check_header(header, path)
    return Manifest(header, records)


def is_inside(name: str) -> bool:
    """Whether a name in a stranger's file is a path below its folder, on any system."""
    inside = pathlib.PurePosixPath(name)
    outside = not inside.parts or inside.is_absolute() or ".." in inside.parts
    return not outside and "\0" not in name and "\\" not in name


def _check_header(header: Mapping[str, Any], path: pathlib.Path) -> None:
    """Refuses what no card and no arrays can be made from; what exports do not read may be any."""
    for name, kind in (("method", str), ("data", str), ("teacher", dict), ("synthesis", dict)):
        if not isinstance(header.get(name, kind()), kind):
            expected = "text" if kind is str else "an object"
            raise InputError(f"{path}: {name} {str(header[name])[:80]!r}; expected {expected}")
    top1 = header.get("teacher", {}).get("top1")
    if top1 is not None and (type(top1) not in (int, float) or not 0 <= top1 <= 100):
        raise InputError(f"{path}: top1 {str(top1)[:80]!r} of teacher; expected percent, or null")
    if {"mean", "std"} & header.keys():
        mean, std = header.get("mean"), header.get("std")
        moments(f"of {path}: {str((mean, std))[:80]}", mean, std)
    try:
        strict_json.dumps(
            header, ensure_ascii=False, indent=2
        ).encode()  # as exports write it again
    except (UnicodeEncodeError, RecursionError):
        raise InputError(f"{path}: text that UTF-8 cannot hold, or objects too deep") from None


def _check_types(record: ImageRecord, path: pathlib.Path) -> None:
    """Refuses what no manifest of ours holds: names of files are made from it."""
    numbers = (record.class_index, record.slot, record.join_round, record.iterations)
    texts = (record.class_name, record.source, record.file, record.sha256)
    if not all(type(n) is int and 0 <= n < 2**31 for n in numbers) or not all(
        isinstance(text, str) and _is_utf8(text) for text in (*texts, *record.sources)
    ):
        raise InputError(f"{path}: image {str(record)[:120]!r}; expected numbers from 0, and texts")
    if not all(len(box) == 4 and all(type(n) is int for n in box) for box in record.boxes):
        raise InputError(f"{path}: boxes {str(record.boxes)[:120]}; expected four numbers each")


def _is_utf8(text: str) -> bool:
    try:
        return text.encode() is not None
    except UnicodeEncodeError:
        return False


def verify(directory: pathlib.Path) -> Manifest:
    """Checks that every image of the manifest is there, byte for byte, and no other is.

    Returns:
      The manifest.

    Raises:
      InputError: naming the first file that is missing, changed or too many.
    """
    manifest = read_manifest(directory)
    for problem in problems(directory, manifest):
        raise InputError(problem)
    return manifest


def problems(directory: pathlib.Path, manifest: Manifest) -> Iterator[str]:
    """Yields a line for each image that is missing or changed, and each file too many."""
    for record in manifest.records:
        try:
            read_file(directory, record)
        except InputError as error:
            yield str(error)
    named = {record.file for record in manifest.records}
    for path in sorted((directory / "train").rglob("*")):
        name = path.relative_to(directory).as_posix()
        ours = not any(map(is_stray, path.relative_to(directory).parts))
        if path.is_file() and ours and name not in named:
            yield in_one_line(f"{path}: not in {FILE_NAME}; expected only the images that it names")


def read_file(directory: pathlib.Path, record: ImageRecord) -> bytes:
    """Returns the bytes of one image; raises `InputError` where they are not what was written."""
    path = directory / record.file
    try:
        # A link may lead to anybody's file, which an export would then hand on.
        if not path.resolve().is_relative_to(directory.resolve()):
            raise InputError(f"{path}: a link that leads out of {directory}; expected a file")
        data = path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before 3.13
        raise InputError(
            f"{path}: {getattr(error, 'strerror', None) or error}; {FILE_NAME} names it"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise InputError(
            f"{path}: changed, SHA-256 {found[:12]}...; {FILE_NAME} says {record.sha256[:12]}..."
        )
    return data


def _as_json(record: ImageRecord) -> dict[str, Any]:
    """Its fields; those of patches and mosaics only where it is one."""
    value = dataclasses.asdict(record)
    return {
        name: entry for name, entry in value.items() if entry or name not in ("sources", "boxes")
    }
