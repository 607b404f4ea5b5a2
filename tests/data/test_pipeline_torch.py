"""The centre crop against torchvision's, to the bit."""

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.pipeline import centre_crop

SHAPES = [(32, 32), (40, 33), (33, 40), (64, 64), (75, 300), (301, 256), (500, 375), (31, 20)]


@pytest.mark.parametrize("size", [15, 32, 64, 128, 224])
def test_centre_crop_is_torchvisions(torchvision, size):
    transforms = torchvision.transforms
    theirs = transforms.Compose(
        [transforms.Resize(size // 7 * 8, antialias=True), transforms.CenterCrop(size)]
    )
    rng = np.random.default_rng(size)
    for height, width in SHAPES:
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        expected = np.asarray(theirs(Image.fromarray(image)))
        np.testing.assert_array_equal(centre_crop(image, size), expected)
