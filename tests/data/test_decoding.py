"""Files that no camera should have written, and some that every camera does."""

import errno
import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from delt_jax.data.decoding import decode
from delt_jax.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_rgb_from_bytes_and_from_a_path(tmp_path):
    data = encoded(Image.fromarray(RGB))
    np.testing.assert_array_equal(decode(data, "x"), RGB)
    path = tmp_path / "ünïcode 図.png"
    path.write_bytes(data)
    np.testing.assert_array_equal(decode(path, "x"), RGB)


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter to the right
    data = encoded(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(decode(data, "x"), np.rot90(RGB, -1))


def test_pixels_outlive_broken_exif(monkeypatch):
    def broken(image):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB)), "x"), RGB)


def test_grey_alpha_and_palette():
    grey = Image.fromarray(RGB[..., 0])
    np.testing.assert_array_equal(decode(encoded(grey), "x"), np.repeat(RGB[..., :1], 3, -1))
    alpha = Image.fromarray(np.dstack([RGB, RGB[..., 0]]))
    np.testing.assert_array_equal(decode(encoded(alpha), "x"), RGB)
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(decode(encoded(palette), "x"), palette.convert("RGB"))


def test_sixteen_bit_grey_is_scaled_not_clipped():
    deep = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    expected = np.array([[0, 0, 1], [128, 255, 255]], np.uint8)
    found = decode(encoded(Image.fromarray(deep)), "x")
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, -1))


def test_cmyk_and_the_first_frame_of_an_animation():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert decode(encoded(cmyk, "JPEG"), "x").shape == RGB.shape
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data, "x"), np.full((4, 4, 3), (255, 0, 0)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no known image format"),
        (b"GET / HTTP/1.1", "no known image format"),
        (encoded(Image.fromarray(RGB))[:60], "image x: cannot be read"),
        (encoded(Image.fromarray(np.tile(RGB, (9, 9, 1))), "JPEG")[:-400], "truncated"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg"],
)
def test_broken_bytes_are_named_in_one_line(data, message):
    with pytest.raises(InputError, match=message) as caught:
        decode(data, "x")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: cannot be read \(not there\)"):
        decode(tmp_path / "gone.png", str(tmp_path / "gone.png"))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), *(OSError(n, "") for n in (errno.EIO, errno.ESTALE, errno.EMFILE))],
    ids=["memory", "disk", "network", "open files"],
)
@pytest.mark.parametrize("where", ["opening", "turning upright"])
def test_what_the_machine_fails_to_deliver_is_no_broken_image(monkeypatch, error, where):
    def fail(image):
        raise error

    data = encoded(Image.fromarray(RGB))
    module, function = (Image, "open") if where == "opening" else (ImageOps, "exif_transpose")
    monkeypatch.setattr(module, function, fail)
    with pytest.raises(type(error)) as caught:
        decode(data, "x.png")
    assert caught.value is error
    assert getattr(error, "filename", "x.png") == "x.png"
