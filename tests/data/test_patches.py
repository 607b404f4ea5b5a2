"""Random crops, mosaics, and the images that a selection begins as."""

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.arrays import ArraySource
from delt_jax.data.patches import (
    RandomCrops,
    cell_shapes,
    crop,
    initial_image,
    initial_images,
    join_cells,
    random_box,
)
from delt_jax.data.pipeline import centre_crop, load
from delt_jax.data.selection import Selection
from delt_jax.errors import InputError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (375, 500), (40, 33), (20, 90), (3, 2)])
def test_boxes_are_squares_inside_the_image(height, width):
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, rows, columns = random_box(height, width, rng)
        assert rows == columns > 0
        assert 0 <= top <= height - rows and 0 <= left <= width - columns


def test_the_area_is_uniform_and_the_place_too():
    rng = np.random.default_rng(1)
    boxes = np.array([random_box(1000, 1000, rng) for _ in range(4000)])
    shares = boxes[:, 2] * boxes[:, 3] / 1e6
    assert shares.min() > 0.079
    np.testing.assert_allclose(
        np.quantile(shares, [0.25, 0.5, 0.75]), [0.31, 0.54, 0.77], atol=0.03
    )
    places = boxes[:, :2] / (1001 - boxes[:, 2:])
    np.testing.assert_allclose(np.quantile(places, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)


def test_where_no_square_fits_it_is_the_largest_in_the_middle():
    rng = np.random.default_rng(0)
    assert random_box(100, 1, rng) == (49, 0, 1, 1)
    assert random_box(10, 1001, rng) == (0, 495, 10, 10)


def test_crops_are_the_image_s_own():
    views = RandomCrops(count=5, side=6, seed=3)
    image = noise(20, 30)
    crops, boxes = views(image, "ant/1.png")
    assert crops.shape == (5, 6, 6, 3) and crops.dtype == np.uint8
    np.testing.assert_array_equal(boxes, views.boxes(20, 30, "ant/1.png"))
    for found, box in zip(crops, boxes, strict=True):
        np.testing.assert_array_equal(found, crop(image, box, 6))
    others = [views.boxes(20, 30, "ant/2.png"), RandomCrops(5, 6, 4).boxes(20, 30, "ant/1.png")]
    assert all((other != boxes).any() for other in others)
    # More crops go on where fewer stopped.
    np.testing.assert_array_equal(RandomCrops(9, 6, 3).boxes(20, 30, "ant/1.png")[:5], boxes)


def test_crop_cuts_before_it_resizes():
    image = noise(12, 10)
    np.testing.assert_array_equal(crop(image, (2, 3, 4, 4), 4), image[2:6, 3:7])
    cut = Image.fromarray(image[2:10, 1:9]).resize((3, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crop(image, (2, 1, 8, 8), 3), np.asarray(cut))
    assert crop(image, (0, 0, 10, 10), 5, 7).shape == (5, 7, 3)


@pytest.mark.parametrize("box", [(0, 3, 9, 9), (12, 0, 1, 1), (0, 0, 0, 0)])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(InputError, match="not inside an image of 12 x 10 pixels"):
        crop(noise(12, 10), box, 4)


def test_cells_fill_the_mosaic():
    assert cell_shapes(224, 2) == ((112, 112),) * 4
    assert cell_shapes(224, 1) == ((224, 224),)
    sides = cell_shapes(224, 3)
    assert sides[:4] == ((75, 75), (75, 75), (75, 74), (75, 75)) and sides[8] == (74, 74)
    cells = [np.full((*shape, 3), k, np.uint8) for k, shape in enumerate(cell_shapes(5, 2))]
    assert join_cells(cells)[..., 0].tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
        [2, 2, 2, 3, 3],
        [2, 2, 2, 3, 3],
    ]


@pytest.fixture
def source():
    """Two classes of eight images of 20 x 24 pixels."""
    images = np.random.default_rng(0).integers(0, 256, (16, 20, 24, 3), np.uint8)
    return ArraySource(images, np.repeat([0, 1], 8), ("ant", "bee"))


INDICES = np.random.default_rng(1).permutation(8) + np.array([[0], [8]])
SCORES = np.zeros((2, 8))


def boxes_of(seed=2):
    rng = np.random.default_rng(seed)
    return np.array([random_box(20, 24, rng) for _ in range(16)]).reshape(2, 8, 4)


def test_whole_images_are_the_centre_crops(source):
    images = initial_images(source, Selection(INDICES, SCORES), 8)
    np.testing.assert_array_equal(images, load(source, INDICES.ravel(), 8).images)
    some = initial_images(source, Selection(INDICES, SCORES), 8, np.array([5, 0, 11]))
    np.testing.assert_array_equal(some, images[[5, 0, 11]])


def test_patches(source):
    boxes = boxes_of()
    images = initial_images(source, Selection(INDICES, SCORES, boxes), 8)
    assert images.shape == (16, 8, 8, 3)
    for slot in (0, 7, 8, 13):
        label, rank = divmod(slot, 8)
        patch = crop(source[INDICES[label, rank]], boxes[label, rank], 8)
        np.testing.assert_array_equal(images[slot], patch)


def test_the_cells_of_a_mosaic_are_its_patches(source):
    boxes = boxes_of()
    images = initial_images(source, Selection(INDICES, SCORES, boxes, factor=2), 8)
    assert images.shape == (4, 8, 8, 3)
    for slot, image in enumerate(images):
        label, i = divmod(slot, 2)
        for k in range(4):
            rank = k * 2 + i  # IPC is 2
            patch = crop(source[INDICES[label, rank]], boxes[label, rank], 4)
            row, column = divmod(k, 2)
            cell = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_array_equal(cell, patch)


def test_mosaics_of_whole_images_show_each_as_it_was_scored_shrunk(source):
    images = initial_images(source, Selection(INDICES, SCORES, factor=2), 8, np.array([1]))
    scored = centre_crop(source[INDICES[0, 3]], 8)
    np.testing.assert_array_equal(images[0, :4, 4:], crop(scored, (0, 0, 8, 8), 4))


def test_initial_image_of_one_whole_image_is_its_centre_crop():
    image = noise(20, 24)
    np.testing.assert_array_equal(initial_image([image], [None], 15), centre_crop(image, 15))
