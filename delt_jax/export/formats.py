"""The formats that a distilled set is handed over in, their options, and how an export is made."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import delt_jax
from delt_jax.errors import InputError, listed
from delt_jax.export import (
    array_record,
    card,
    compact_labels,
    fkd,
    folder_copy,
    huggingface,
    npz,
    safetensors_file,
    tensors,
    webdataset,
)
from delt_jax.export.distilled_set import DistilledSet
from delt_jax.export.export_folder import new_folder, refuse_another
from delt_jax.export.image_folder import FORMATS as ENCODINGS
from delt_jax.export.image_folder import NAMINGS
from delt_jax.export.manifest import EXPORT, ImageRecord, write_manifest
from delt_jax.runtime.workdir import expanded

# Fills a new, empty folder. Where image files of its own lie in it, it returns their records.
Writer = Callable[[DistilledSet, pathlib.Path, Mapping[str, Any]], Sequence[ImageRecord] | None]


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
      write: writes the data; card, manifest and sums are not its business.
      loading: Python that loads an export from within its folder.
      front_matter: what the card begins with.
      needs: module without which it cannot be written, and what to install for it; ("", "") for
        what every installation has.
      of_labels: whether it hands over the stored labels.
    """

    write: Writer
    loading: str
    front_matter: Callable[[DistilledSet], str] = lambda source: ""
    needs: tuple[str, str] = ("", "")
    of_labels: bool = False


FORMATS: dict[str, Format] = {
    "image_folder": Format(folder_copy.write, folder_copy.LOADING),
    "tensors": Format(tensors.write, tensors.LOADING, needs=("torch", "delt_jax[torch]")),
    "safetensors": Format(safetensors_file.write, safetensors_file.LOADING),
    "npz": Format(npz.write, npz.LOADING),
    "webdataset": Format(webdataset.write, webdataset.LOADING),
    "huggingface": Format(huggingface.write, huggingface.LOADING, huggingface.front_matter),
    # Grain brings it, but not to every platform.
    "array_record": Format(
        array_record.write, array_record.LOADING, needs=("array_record", "array_record")
    ),
    "labels": Format(compact_labels.write, compact_labels.LOADING, of_labels=True),
    "fkd": Format(fkd.write, fkd.LOADING, needs=("torch", "delt_jax[torch]"), of_labels=True),
}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of exports.

    Attributes:
      name: below `export` in the config, and as a flag.
      default: its value, of its type.
      meaning: in a line.
      words: its values; () for any.
      limits: of a number.
    """

    name: str
    default: Any
    meaning: str
    words: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None


OPTIONS: tuple[Option, ...] = (
    Option("encoding", "", "of image files: png, jpg, or as they are", ("", *ENCODINGS)),
    Option("quality", 95, "of files that become JPEG", limits=(1, 95)),
    Option("naming", "class", "of class folders: class, or reference (new000)", NAMINGS),
    Option(
        "statistics",
        "teacher",
        "that tensors are normalised with: teacher, dataset, imagenet, or numbers as mean/std",
    ),
    Option("labels", "hard", "of tensors: hard, or soft (the teacher's logits)", ("hard", "soft")),
    Option("shard_megabytes", 500, "after which a shard ends", limits=(1, 1_000_000)),
)


def export(
    source: str | pathlib.Path | DistilledSet,
    destination: str | pathlib.Path,
    formats: str | Sequence[str],
    options: Mapping[str, Any] | None = None,
) -> dict[str, pathlib.Path]:
    """Writes a distilled set in some formats, a folder each, with card, manifest and sums.

    A folder is there whole or not at all; an earlier export in it is replaced.

    Args:
      source: a work directory, its distilled/, or an export of the format image_folder.
      destination: folder in which the folders of the formats lie.
      formats: a name of `FORMATS`, or some.
      options: values of `OPTIONS`; what is absent has its default.

    Returns:
      The folder of each format.

    Raises:
      InputError: for an unknown format or option, a destination that holds something else, an image
        that is not what was distilled, and what a format lacks.
    """
    names = (formats,) if isinstance(formats, str) else tuple(dict.fromkeys(formats))
    values = check(names, options or {})
    opened = source if isinstance(source, DistilledSet) else DistilledSet.open(source)
    parent = expanded(destination)
    check_destination(parent, opened.directory, names)
    written = {}
    for name in names:
        chosen, folder = FORMATS[name], parent / name
        with new_folder(folder) as partial:
            records = chosen.write(opened, partial, values) or opened.records
            text = chosen.front_matter(opened) + card.write_card(opened, name, chosen.loading)
            (partial / "README.md").write_text(text, encoding="utf-8")
            made = {
                "format": name,
                "delt_jax": delt_jax.__version__,
                "options": values,
                "class_names": list(opened.class_names),  # in label order
            }
            write_manifest(partial, records, {**opened.header, EXPORT: made})
        written[name] = folder
    return written


def check_destination(parent: pathlib.Path, distilled: pathlib.Path, names: Sequence[str]) -> None:
    """Checks that formats may be written below a folder.

    Args:
      parent: the folder.
      distilled: the distilled set, which need not be there yet.
      names: of the formats.

    Raises:
      InputError: where the folder lies in the distilled set, or a format's holds something else.
    """
    try:
        if parent.resolve().is_relative_to(distilled.resolve()):
            raise InputError(
                f"{parent}: lies in the distilled set; expected a folder outside of it"
            )
        for name in names:
            refuse_another(parent / name)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before 3.13
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{parent}: cannot write there ({reason})") from error


def check(formats: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks names of formats and values of options; returns the values, completed.

    Raises:
      InputError: for the first that is wrong.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(
                f"export.formats: got {name!r}, expected some of {listed(FORMATS, name)}"
            )
        module, package = FORMATS[name].needs
        if module and importlib.util.find_spec(module) is None:
            raise InputError(f"export {name}: needs {module}: pip install '{package}'")
    known = {option.name: option for option in OPTIONS}
    for name in options:
        if name not in known:
            raise InputError(f"export.{name}: no such option, expected {listed(known, name)}")
    values = {name: options.get(name, option.default) for name, option in known.items()}
    for name, option in known.items():
        value = values[name]
        if type(value) is not type(option.default):
            expected = type(option.default).__name__
            raise InputError(f"export.{name}: got {value!r}, expected {expected}")
        if option.words and value not in option.words:
            raise InputError(
                f"export.{name}: got {value!r}, expected one of {listed(option.words, value)}"
            )
        if option.limits and not option.limits[0] <= value <= option.limits[1]:
            least, most = option.limits
            raise InputError(f"export.{name}: got {value}, expected {least} to {most}")
    return values
