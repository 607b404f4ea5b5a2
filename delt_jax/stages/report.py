"""The report stage: results.json and report.html from what the other stages left behind."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from delt_jax.data.decoding import decode
from delt_jax.data.patches import initial_image
from delt_jax.errors import InputError
from delt_jax.export.manifest import ImageRecord, read_file
from delt_jax.report.gallery import Photo
from delt_jax.report.page import render
from delt_jax.report.record import read_record
from delt_jax.report.results import summarise
from delt_jax.report.summary import summary_table
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.opening import describe, open_split

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

    photo, note = _photos(config, min(read(record.images[0]).shape[:2]))
    if record.schedule.get("iterations") == 0:
        photo, note = (lambda image: None), ""  # nothing was optimised: they are the images
    page = render(record, summary, read, photo, note, config.report.classes)
    workdir.write_json(workdir.results_json, summary)
    workdir.write_text(workdir.report_html, page)
    return ReportResult(workdir.results_json, workdir.report_html, summary)


def _photos(config: Any, size: int) -> tuple[Photo, str]:
    """Finds source photos, as the synthesis began with them; with a reason where they are gone.

    Args:
      config: reads `data`.
      size: side of the distilled images in pixels.
    """
    try:
        source = open_split(config, describe(config), "train")
    except (InputError, OSError) as error:
        return (lambda image: None), str(error)
    index_of = {name: index for index, name in enumerate(source.names)}

    def photo(image: ImageRecord) -> np.ndarray | None:
        names = image.sources or (image.source,)
        if not all(name in index_of for name in names):
            return None
        boxes = image.boxes or (None,) * len(names)
        try:
            return initial_image([source[index_of[name]] for name in names], boxes, size)
        except (InputError, OSError):
            return None

    return photo, ""
