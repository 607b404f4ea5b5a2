"""Pictures of many small images, as notebooks show them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

GAP = 2  # pixels between two images, before enlarging
SIDE = 48  # px; smaller images are enlarged by whole factors to about this, larger ones shrunk
LARGEST_SIDE = 112


def mosaic(rows: Sequence[UInt8[np.ndarray, "n h w 3"]]) -> Image.Image:
    """One picture of rows of images of one size, on white; rows may be of different lengths."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    canvas = np.full(
        (len(rows) * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8
    )
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            top, left = GAP + y * (height + GAP), GAP + x * (width + GAP)
            canvas[top : top + height, left : left + width] = image
    picture = Image.fromarray(canvas)
    if height < SIDE:
        factor = max(1, round(SIDE / height))
        return picture.resize(
            (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
        )
    if height > LARGEST_SIDE:
        factor = LARGEST_SIDE / height
        size = round(picture.width * factor), round(picture.height * factor)
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture
