"""The report stage: results.json and report.html from what the other stages left behind."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from delt_jax.data.decoding import decode
from delt_jax.data.pipeline import centre_crop
from delt_jax.data.sources import open_source
from delt_jax.errors import InputError
from delt_jax.export.manifest import ImageRecord, read_file
from delt_jax.report.gallery import Photo
from delt_jax.report.page import render
from delt_jax.report.record import read_record
from delt_jax.report.results import summarise
from delt_jax.report.summary import summary_table
from delt_jax.runtime.workdir import WorkDir

__all__ = ["ReportResult", "run", "summary_table"]


@dataclasses.dataclass(frozen=True)
class ReportResult:
    """Where the report is, and what it says."""

    results_json: pathlib.Path
    report_html: pathlib.Path
    results: dict[str, Any]


def run(config: Any, workdir: WorkDir) -> ReportResult:
    """Writes results.json and report.html.

    Everything but the source photos comes from the work directory; whatever is missing there is
    left out of the report, which says so.

    Args:
      config: an `ml_collections.ConfigDict`; reads `data`, to find the source photos, and
        `report.classes`.
      workdir: holds at least distilled/manifest.json and the images it names.

    Raises:
      InputError: where there is no distilled set, or a file of the run is damaged.
    """
    record = read_record(workdir)
    summary = summarise(record, workdir)

    def read(image: ImageRecord) -> np.ndarray:
        return decode(read_file(workdir.distilled, image), image.file)

    photo, note = _photos(config.data, min(read(record.images[0]).shape[:2]))
    page = render(record, summary, read, photo, note, config.report.classes)
    workdir.write_json(workdir.results_json, summary)
    workdir.write_text(workdir.report_html, page)
    return ReportResult(workdir.results_json, workdir.report_html, summary)


def _photos(data: Any, size: int) -> tuple[Photo, str]:
    """Finds source photos, cropped as the synthesis saw them; with a reason where they are gone.

    Args:
      data: reads `name`, `source` and `image_size`.
      size: side of the distilled images in pixels.
    """
    try:
        source = open_source(data.name or "", data.source or "", "train", data.image_size or None)
    except (InputError, OSError) as error:
        return (lambda name: None), str(error)
    index_of = {name: index for index, name in enumerate(source.names)}

    def photo(name: str) -> np.ndarray | None:
        try:
            return centre_crop(source[index_of[name]], size) if name in index_of else None
        except (InputError, OSError):
            return None

    return photo, ""
