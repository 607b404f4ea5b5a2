"""The distilled images, and the photos they started from, as data URIs that fit into one page."""

import base64
import dataclasses
import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from delt_jax.export.manifest import ImageRecord
from delt_jax.report.axes import thin

Pixels = UInt8[np.ndarray, "h w 3"]
Read = Callable[[ImageRecord], Pixels]
"""Reads a distilled image."""
Photo = Callable[[ImageRecord], Pixels | None]
"""Looks up the real image that a distilled one started from; None where it is gone."""

MOST_IMAGES = 1200  # distilled images in a page; beyond that, fewer classes
BYTE_BUDGET = 7_000_000  # of data URIs in the gallery; the report stays below 10 MB
LOSSLESS_SIDE = 64  # px; images up to this are kept as they are, as PNG
THUMBNAIL_SIDES = (160, 128, 96, 72, 56, 40)  # px; the largest that fits the budget is taken
MOSAIC, MOSAIC_SIDE = 10, 56  # images along a side of the mosaic, and px of each
QUALITY = 84  # of JPEG thumbnails


@dataclasses.dataclass(frozen=True)
class Cell:
    """One distilled image and its source."""

    image: ImageRecord
    uri: str
    source_uri: str | None


@dataclasses.dataclass(frozen=True)
class Row:
    """A class: its images by rank, None where one is missing."""

    class_index: int
    class_name: str
    cells: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """A rank; `round` and `iterations` are None where they differ between the classes."""

    rank: int
    round: int | None
    iterations: int | None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The grid of images.

    Attributes:
      rows: the classes shown.
      columns: the ranks.
      classes: how many classes there are.
      side: of the image files, in px.
      shrunk_to: side of the thumbnails; None where nothing was shrunk.
      sources_named: how many of the images shown name a source photo.
      sources_found: how many of those photos were found.
      mosaic: data URI of some of the images, classes down and ranks across.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    classes: int
    side: int
    shrunk_to: int | None
    sources_named: int
    sources_found: int
    mosaic: str

    @property
    def pixelated(self) -> bool:
        """Whether the images are small enough that their pixels should show."""
        return self.side <= LOSSLESS_SIDE and self.shrunk_to is None


def build_gallery(
    images: Sequence[ImageRecord], read: Read, photo: Photo, most_classes: int = 20
) -> Gallery:
    """Encodes the images of up to `most_classes` classes, evenly spread, within the byte budget."""
    by_class: dict[int, dict[int, ImageRecord]] = {}
    for image in images:
        by_class.setdefault(image.class_index, {})[image.slot] = image
    ranks = sorted({image.slot for image in images})
    classes = sorted(by_class)
    most = max(min(most_classes, MOST_IMAGES // len(ranks)), 1)
    shown = [classes[i] for i in thin(len(classes), most)]

    distilled: dict[str, Image.Image] = {}
    sources: dict[str, Image.Image] = {}
    named = side = 0
    for image in (image for index in shown for image in by_class[index].values()):
        pixels = read(image)
        side = max(side, *pixels.shape[:2])
        distilled[image.file] = _shrink(Image.fromarray(pixels), THUMBNAIL_SIDES[0])
        if image.source:
            named += 1
            if (found := photo(image)) is not None:
                sources[image.file] = _shrink(Image.fromarray(found), THUMBNAIL_SIDES[0])
    uris, source_uris, shrunk_to = _encode_within(BYTE_BUDGET, distilled, sources, side)

    def cell(image: ImageRecord | None) -> Cell | None:
        return image and Cell(image, uris[image.file], source_uris.get(image.file))

    rows = tuple(
        Row(
            index,
            next(iter(by_class[index].values())).class_name,
            tuple(cell(by_class[index].get(rank)) for rank in ranks),
        )
        for index in shown
    )
    columns = tuple(_column(rank, [i for i in images if i.slot == rank]) for rank in ranks)
    return Gallery(
        rows=rows,
        columns=columns,
        classes=len(classes),
        side=side,
        shrunk_to=shrunk_to,
        sources_named=named,
        sources_found=len(sources),
        mosaic=_mosaic([[distilled[c.image.file] for c in row.cells if c] for row in rows]),
    )


def _column(rank: int, images: list[ImageRecord]) -> Column:
    def common(values: set[int]) -> int | None:
        return values.pop() if len(values) == 1 else None

    return Column(
        rank, common({i.join_round for i in images}), common({i.iterations for i in images})
    )


def _mosaic(rows: list[list[Image.Image]]) -> str:
    """Joins up to 10 by 10 images, evenly spread; where that would be a tower, in a square."""
    chosen = [rows[i] for i in thin(len(rows), MOSAIC)]
    chosen = [[row[i] for i in thin(len(row), MOSAIC)] for row in chosen]
    if len(chosen) > 2 * max(map(len, chosen)):
        flat = [image for row in chosen for image in row]
        across = math.ceil(math.sqrt(len(flat)))
        chosen = [flat[i : i + across] for i in range(0, len(flat), across)]
    side = min(max(chosen[0][0].size), MOSAIC_SIDE)
    sheet = Image.new("RGB", (side * max(map(len, chosen)), side * len(chosen)))
    for y, row in enumerate(chosen):
        for x, image in enumerate(row):
            sheet.paste(image.resize((side, side), Image.Resampling.LANCZOS), (side * x, side * y))
    return data_uri(sheet)


def _encode_within(
    budget: int, distilled: dict[str, Image.Image], sources: dict[str, Image.Image], side: int
) -> tuple[dict[str, str], dict[str, str], int | None]:
    """Encodes distilled images and sources at the largest size that fits; None means unshrunk."""
    limits: list[int | None] = [s for s in THUMBNAIL_SIDES if s < side]
    if side <= THUMBNAIL_SIDES[0]:
        limits.insert(0, None)
    encoded = ({}, {}, None)
    for limit in limits:
        uris = {path: data_uri(image, limit) for path, image in distilled.items()}
        source_uris = {path: data_uri(image, limit) for path, image in sources.items()}
        encoded = (uris, source_uris, limit)
        if sum(map(len, [*uris.values(), *source_uris.values()])) <= budget:
            break
    return encoded


def data_uri(image: Image.Image, side: int | None = None) -> str:
    """A data URI of `image`: PNG where it is small, else JPEG, no side longer than `side` px."""
    lossless = max(image.size) <= LOSSLESS_SIDE
    if side is not None:
        image = _shrink(image, side)
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _shrink(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image
