"""The folder of an export: whole or not there, with the sum of every file in it, checked again."""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

from delt_jax.errors import InputError, in_one_line
from delt_jax.export.manifest import EXPORT, FILE_NAME, is_inside, read_manifest
from delt_jax.runtime import faults, interruption

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@contextlib.contextmanager
def new_folder(destination: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a hidden folder beside `destination` to fill, and renames it once it is whole.

    Sums are written last. An earlier export is replaced; whatever fails leaves it as it was.

    Raises:
      InputError: where `destination` holds something else, or cannot be made.
    """
    refuse_another(destination)
    partial = destination.with_name(f".{destination.name}.partial")
    replaced = destination.with_name(f".{destination.name}.replaced")
    try:
        if replaced.exists() and not destination.exists():  # killed between the two renames
            replaced.rename(destination)
        for left in (partial, replaced):  # of an export that was killed
            if left.exists():
                shutil.rmtree(left)
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{destination}: cannot write there ({error.strerror or error})"
        ) from error
    try:
        with faults.named(partial):
            yield partial
            _write_sums(partial)
        with interruption.held_back():
            if destination.exists():
                destination.rename(replaced)
            try:
                partial.rename(destination)
            except OSError:
                if replaced.exists():
                    replaced.rename(destination)
                raise
    finally:
        for left in (partial, replaced):
            if left.exists():
                shutil.rmtree(left)


def problems(folder: pathlib.Path) -> list[str]:
    """Checks an export against its sums and its manifest; a line for each file that is wrong."""
    return [in_one_line(problem) for problem in _problems(folder)]


def _problems(folder: pathlib.Path) -> list[str]:
    try:
        sums = _read_sums(folder)
    except InputError as error:
        return [str(error)]
    found = []
    for name, expected in sums.items():
        path = folder / name
        if path.is_symlink():
            found.append(f"{path}: a link; expected a file")
        elif not path.is_file():
            found.append(f"{path}: not there; {SUMS} names it")
        elif (actual := _sum(path)) != expected:
            found.append(
                f"{path}: changed, SHA-256 {actual[:12]}...; {SUMS} says {expected[:12]}..."
            )
    found += [
        f"{path}: not in {SUMS}; expected only what it names" for path in _strays(folder, sums)
    ]
    try:
        manifest = read_manifest(folder)
    except InputError as error:
        return [*found, str(error)]
    if FILE_NAME not in sums:
        found.append(f"{folder / FILE_NAME}: not in {SUMS}")
    made = manifest.header.get(EXPORT)
    if not isinstance(made, dict) or "format" not in made:
        found.append(
            f"{folder / FILE_NAME}: no entry {EXPORT!r}; expected the manifest of an export"
        )
    elif made["format"] == "image_folder":
        found += [
            f"{folder / record.file}: {FILE_NAME} and {SUMS} differ about it"
            for record in manifest.records
            if sums.get(record.file) != record.sha256
        ]
    return found


def refuse_another(destination: pathlib.Path) -> None:
    """Refuses what is no earlier export, or a folder that holds more than one."""
    if not destination.exists() and not destination.is_symlink():
        return
    sums, is_export = {}, False
    if destination.is_dir() and not destination.is_symlink():
        if not any(destination.iterdir()):
            return
        with contextlib.suppress(InputError):
            sums = _read_sums(destination)
            is_export = EXPORT in read_manifest(destination).header
    if not is_export:
        raise InputError(
            f"{destination}: holds something else; expected an empty folder, none, or an earlier "
            "export"
        )
    if strays := _strays(destination, sums):
        raise InputError(
            f"{strays[0]}: no part of the export there, which would be replaced; expected it "
            "elsewhere"
        )


def _write_sums(folder: pathlib.Path) -> None:
    """Sums of all files, which are on the disk before their folder gets its name."""
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _read_sums(folder: pathlib.Path) -> dict[str, str]:
    """Name -> SHA-256."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason}); expected that of an export") from None
    sums = {}
    for number, line in enumerate(filter(None, lines), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}: line {number} is {line[:80]!r}; expected SHA-256 and a name")
        if not is_inside(match[2]):
            raise InputError(f"{path}: line {number} leads out of the folder, {match[2]!r}")
        sums[match[2]] = match[1]
    return sums


def _strays(folder: pathlib.Path, sums: dict[str, str]) -> list[pathlib.Path]:
    names = {SUMS, *sums}
    return [p for p in _files(folder) if p.relative_to(folder).as_posix() not in names]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All that is no folder, links to folders too, in order."""
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (pathlib.Path(root) / name).is_symlink()]
        found += [pathlib.Path(root) / name for name in (*files, *links)]
    return sorted(found)


def _sum(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
