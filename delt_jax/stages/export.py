"""export: check the distilled set, and hand it over in another form where one is asked for."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from delt_jax.errors import InputError
from delt_jax.export import image_folder, manifest
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """How many images were handed over, and where to (None where the config names no folder)."""

    images: int
    directory: pathlib.Path | None


def _export_image_folder(
    options: Mapping[str, Any], distilled: pathlib.Path, destination: pathlib.Path
) -> None:
    image_folder.copy(
        distilled,
        destination,
        encoding=options.get("format", ""),
        quality=options.get("quality", 75),
        naming=options.get("naming", "class"),
    )


# One function per layout: (config.export, distilled set, folder to write).
LAYOUTS: dict[str, Callable[[Any, pathlib.Path, pathlib.Path], None]] = {
    "image_folder": _export_image_folder,
}


def run(config: Any, workdir: WorkDir) -> ExportResult:
    """Verifies every image against its hash; exports where `config.export.directory` is not empty.

    Args:
      config: an `ml_collections.ConfigDict`; reads `export.directory` and, where they are there,
        `export.layout` (of `LAYOUTS`), `export.format` ("" as it is, "png" or "jpg"),
        `export.quality` and `export.naming`.
      workdir: reads the distilled set.

    Raises:
      InputError: where an image is missing, changed or not the set's, or an option is wrong.
    """
    options = config.get("export") or {}
    layout = options.get("layout") or "image_folder"
    if layout not in LAYOUTS:
        raise InputError(f"export.layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    images = len(manifest.verify(workdir.distilled).records)
    directory = options.get("directory") or ""
    destination = pathlib.Path(directory).expanduser() if directory else None
    if destination is not None:
        LAYOUTS[layout](options, workdir.distilled, destination)
    MetricsLog(workdir.metrics_jsonl).write(
        "export", images=images, directory=directory, layout=layout
    )
    return ExportResult(images, destination)
