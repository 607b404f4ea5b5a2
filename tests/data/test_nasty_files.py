"""A folder of every file that should not be there, and some that merely look so."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from delt_jax.data.sources import open_source
from delt_jax.errors import InputError

HEIGHT, WIDTH = 6, 9
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GREY = RGB[..., 0]
ALPHA = RGB[..., 1]
DEEP = GREY.astype(np.uint16) * 257  # the same grey in 16 bits


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def frames(kind):
    first, second = Image.fromarray(RGB), Image.new("RGB", (WIDTH, HEIGHT), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=[second], **options)


def rotated_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter to the right
    return encoded(Image.new("RGB", (WIDTH, HEIGHT)), "JPEG", exif=exif)


def palette_with_transparency():
    image = Image.fromarray(RGB).quantize(8)
    return encoded(image, "PNG", transparency=bytes(range(8)))  # one alpha for each colour


def deep_rgb_png():
    """16 bits a channel, which Pillow reads but does not write."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in RGB)

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def broken_exif_jpeg():
    data = encoded(
        Image.new("RGB", (WIDTH, HEIGHT)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    )
    assert b"Exif" in data
    return data


def animated(kind):
    return Image.open(io.BytesIO(frames(kind))).convert("RGB")


PHOTO = encoded(Image.fromarray(np.tile(RGB, (20, 20, 1))), "JPEG")
GREY_RGB = np.repeat(GREY[..., None], 3, -1)
# What becomes of each: its pixels, or its shape alone where the format loses some.
READABLE = {
    "grey.png": (encoded(Image.fromarray(GREY), "PNG"), GREY_RGB),
    "grey.jpg": (encoded(Image.fromarray(GREY), "JPEG"), RGB.shape),
    "bilevel.png": (encoded(Image.fromarray(GREY > 127), "PNG"), GREY_RGB // 128 * 255),
    "grey_alpha.png": (encoded(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"), GREY_RGB),
    "rgb_alpha.png": (encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "PNG"), RGB),
    "rgb_alpha.webp": (
        encoded(Image.fromarray(np.dstack([RGB, ALPHA])), "WEBP", lossless=True, exact=True),
        RGB,
    ),
    "palette.png": (
        encoded(Image.fromarray(RGB).quantize(8), "PNG"),
        np.asarray(Image.fromarray(RGB).quantize(8).convert("RGB")),
    ),
    "palette_transparent.png": (
        palette_with_transparency(),
        np.asarray(Image.fromarray(RGB).quantize(8).convert("RGB")),
    ),
    "cmyk.jpg": (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), RGB.shape),
    "deep_grey.png": (encoded(Image.fromarray(DEEP), "PNG"), GREY_RGB),
    "deep_grey.tif": (encoded(Image.fromarray(DEEP), "TIFF"), GREY_RGB),
    "deep_grey.pgm": (encoded(Image.fromarray(DEEP), "PPM"), GREY_RGB),
    "deep_rgb.png": (deep_rgb_png(), RGB),
    "animated.gif": (frames("GIF"), np.asarray(animated("GIF"))),
    "animated.webp": (frames("WEBP"), RGB),
    "animated.png": (frames("PNG"), RGB),
    "upright.jpg": (rotated_jpeg(), (WIDTH, HEIGHT, 3)),
    "broken_exif.jpg": (broken_exif_jpeg(), RGB.shape),
    "png_called.jpg": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "one_pixel.png": (encoded(Image.fromarray(RGB[:1, :1]), "PNG"), RGB[:1, :1]),
    "one_row.png": (encoded(Image.fromarray(RGB[:1]), "PNG"), RGB[:1]),
    "garbage_behind.jpg": (PHOTO + b"\0" * 100, (HEIGHT * 20, WIDTH * 20, 3)),
    "ünïcode 図 🐦 'quoted', comma.png": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "new\nline.png": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "x" * 251 + ".png": (encoded(Image.fromarray(RGB), "PNG"), RGB),
}
UNREADABLE = {
    "empty.jpg": (b"", "no known image format"),
    "text.jpg": (b"<html><body>404 Not Found</body></html>", "no known image format"),
    "truncated.jpg": (PHOTO[: len(PHOTO) // 2], "truncated"),
    "truncated.png": (encoded(Image.fromarray(RGB), "PNG")[:80], "truncated"),
    "header_only.jpg": (PHOTO[:20], "no known image format"),
    "corrupt_header.jpg": (PHOTO[:200] + b"\xff" * 20 + PHOTO[220:], "no known image format"),
    "floats.tif": (encoded(Image.fromarray(GREY / np.float32(255)), "TIFF"), "32-bit float"),
    "new\nline.jpg": (b"", r"'\S+new\\nline\.jpg': cannot be read"),
}
# Wrong bits among the pixels: a decoder may say so, or go on with wrong pixels.
CORRUPT = {
    "corrupt.png": READABLE["grey.png"][0].replace(b"IDAT", b"IDAT\xff\xff", 1),
    "corrupt.jpg": PHOTO[:1500] + b"\xff" * 20 + PHOTO[1520:],
    "corrupt.gif": READABLE["animated.gif"][0][:-60] + b"\xff" * 60,
    "corrupt.webp": READABLE["rgb_alpha.webp"][0][:-60] + b"\xff" * 60,
}
IGNORED = (".hidden.png", "Thumbs.db", "notes.txt", "labels.csv", "image.psd", "png")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("nasty")
    for split in ("train", "val"):
        for class_name in ("one image", "nasty"):
            (root / split / class_name).mkdir(parents=True)
        (root / split / "one image" / "the only one.png").write_bytes(READABLE["rgb_alpha.png"][0])
    files = {name: data for name, (data, _) in (READABLE | UNREADABLE).items()} | CORRUPT
    for name, data in files.items():
        (root / "train" / "nasty" / name).write_bytes(data)
    for name in IGNORED:
        (root / "train" / "nasty" / name).write_bytes(b"?")
    (root / "train" / "nasty" / "loop").symlink_to("..")
    (root / "val" / "nasty" / "a.png").write_bytes(READABLE["rgb_alpha.png"][0])
    return root


@pytest.fixture(scope="module")
def source(tree):
    return open_source("own", str(tree), "train")


def test_every_image_is_there_once_and_nothing_else(source):
    expected = sorted(f"nasty/{name}" for name in (*READABLE, *UNREADABLE, *CORRUPT))
    assert source.names == (*expected, "one image/the only one.png")
    assert source.class_names == ("nasty", "one image")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", READABLE)
def test_is_converted(source, name):
    expected = READABLE[name][1]
    image = source[source.names.index(f"nasty/{name}")]
    assert image.dtype == np.uint8
    if isinstance(expected, tuple):
        assert image.shape == expected
    else:
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("name", UNREADABLE)
def test_is_named_in_one_line(source, name):
    with pytest.raises(InputError, match=UNREADABLE[name][1]) as caught:
        source[source.names.index(f"nasty/{name}")]
    message = str(caught.value)
    assert message.startswith("image ") and "cannot be read (" in message
    assert len(message.splitlines()) == 1
    assert name.partition("\n")[0] in message


@pytest.mark.parametrize("name", CORRUPT)
def test_is_read_or_named(source, name):
    with contextlib.suppress(InputError):
        image = source[source.names.index(f"nasty/{name}")]
        assert image.dtype == np.uint8 and image.ndim == 3


def test_a_decompression_bomb_is_no_image(source, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    with pytest.raises(InputError, match="could be decompression bomb"):
        source[source.names.index("nasty/animated.png")]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_that_is_merely_large_is_read(source, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    assert source[source.names.index("nasty/animated.png")].shape == RGB.shape
