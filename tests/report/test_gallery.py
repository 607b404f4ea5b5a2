"""The images of the report: which are shown, how large."""

import base64
import io

import numpy as np
from PIL import Image

from delt_jax.export.manifest import ImageRecord
from delt_jax.report.gallery import build_gallery


def test_large_sets_are_thinned_and_shrunk():
    records = [
        ImageRecord(label, f"class {label}", rank, file=f"{label}/{rank}")
        for label in range(30)
        for rank in range(3)
    ]
    noise = np.random.default_rng(0).integers(0, 256, (200, 180, 3), np.uint8)
    shown = build_gallery(records, lambda record: noise, lambda image: None, most_classes=5)
    assert [row.class_index for row in shown.rows] == [0, 7, 14, 22, 29]
    assert shown.classes == 30
    assert (shown.side, shown.shrunk_to) == (200, 160)
    assert not shown.pixelated
    assert shown.sources_named == 0
    cell = shown.rows[0].cells[0]
    assert cell is not None
    thumbnail = Image.open(io.BytesIO(base64.b64decode(cell.uri.partition(",")[2])))
    assert thumbnail.size == (144, 160)
