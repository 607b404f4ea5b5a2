"""export: check the distilled set, and hand it over in the formats that are asked for."""

import dataclasses
import pathlib
from typing import Any

from delt_jax.errors import InputError
from delt_jax.export import fkd, formats, manifest
from delt_jax.export.stored_labels import read_record
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """How many images the set has, and the folder of each format that it was written in."""

    images: int
    folders: dict[str, pathlib.Path]


def run(config: Any, workdir: WorkDir) -> ExportResult:
    """Verifies every image against its hash; writes each format of `config.export.formats`.

    Args:
      config: an `ml_collections.ConfigDict`; reads `export`: `formats` and `directory`, the parent
        of their folders ("": `<workdir>/export`), and the options of
        `delt_jax.export.formats.OPTIONS`.
      workdir: reads the distilled set, for soft labels the teacher, for the cards results.json.

    Raises:
      InputError: where an image is missing, changed or not the set's, or an option is wrong.
    """
    names, options = read_options(config)
    parent = _parent(config, workdir)
    images = len(manifest.verify(workdir.distilled).records)
    folders = formats.export(workdir.path, parent, names, options) if names else {}
    for name, folder in folders.items():
        print(f"export: {name} in {folder}")
    MetricsLog(workdir.metrics_jsonl).write(
        "export", images=images, formats=list(folders), directory=str(parent) if folders else ""
    )
    return ExportResult(images, folders)


def check(config: Any, workdir: WorkDir, makes_labels: bool) -> None:
    """Checks before a run begins what else would end it with its last stage.

    Args:
      config: as in `run`, `ipc` and `labels.order_seed`.
      workdir: of the run.
      makes_labels: whether an earlier stage of the run stores labels.

    Raises:
      InputError: where a format cannot be written with these options, or not there.
    """
    names, _ = read_options(config)
    if names:
        parent = _parent(config, workdir)
        formats.check_destination(parent, workdir.distilled, names)
        if "labels" in names and (parent / "labels").resolve() == workdir.labels.resolve():
            raise InputError(
                f"export.directory: got {config.export.directory!r}, in which the run's own labels "
                "are; expected another folder for the format labels"
            )
    for name in names:
        if not formats.FORMATS[name].of_labels:
            continue
        if makes_labels:
            order_seed = config.labels.order_seed
        else:
            order_seed = read_record(workdir.labels)["stored"]["order_seed"]
        if name == "fkd":
            fkd.check_order(order_seed)
            fkd.check_ipc(config.ipc)


def _parent(config: Any, workdir: WorkDir) -> pathlib.Path:
    """The folder that those of the formats lie in."""
    directory = config.export.directory
    return pathlib.Path(directory).expanduser() if directory else workdir.export


def read_options(config: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The formats and options of a config, checked; raises `InputError`."""
    options = config.export.to_dict()
    names = tuple(options.pop("formats"))
    options.pop("directory")
    return names, formats.check(names, options)
