"""Crops against torchvision's."""

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.patches import crop, random_box


def test_crop_is_torchvisions(torchvision):
    rng = np.random.default_rng(0)
    functional = torchvision.transforms.functional
    for height, width in ((500, 375), (64, 64), (33, 90)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        for side in (16, 64, 112):
            top, left, rows, columns = random_box(height, width, rng)
            theirs = functional.resized_crop(
                Image.fromarray(image), top, left, rows, columns, [side, side], antialias=True
            )
            ours = crop(image, (top, left, rows, columns), side)
            np.testing.assert_array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize(("height", "width"), [(300, 400), (30, 100), (5, 400)])
def test_boxes_are_drawn_as_torchvision_draws_them(torchvision, height, width):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    cropper = torchvision.transforms.RandomResizedCrop(8, ratio=(1, 1))
    image = torch.zeros(3, height, width)
    theirs = np.array(
        [cropper.get_params(image, cropper.scale, cropper.ratio) for _ in range(3000)]
    )
    rng = np.random.default_rng(0)
    ours = np.array([random_box(height, width, rng) for _ in range(3000)])
    spread = np.maximum(theirs.std(0), 0.01)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.1 * spread.max())
    np.testing.assert_allclose(
        np.quantile(ours, [0.05, 0.5, 0.95], axis=0),
        np.quantile(theirs, [0.05, 0.5, 0.95], axis=0),
        atol=0.2 * spread.max(),
    )
