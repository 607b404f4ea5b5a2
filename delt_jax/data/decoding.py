"""Bytes to pixels: one way to decode an image file, whatever source it came from."""

import io
import os
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from delt_jax.errors import InputError


def decode(data: bytes | os.PathLike[str], name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB.

    Rotated as its EXIF says; grey, palette and CMYK images converted; of an animation the first
    frame; alpha dropped; 16-bit channels scaled to 8 bits.

    NOTE(parity): the published code ignores EXIF rotation and saturates 16-bit grey.

    Args:
      data: the bytes of the file, or its path.
      name: what an error calls it.

    Raises:
      InputError: where it is absent, truncated or no image.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(grey)
            return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
        found = "not there" if isinstance(error, FileNotFoundError) else _first_line(error)
        raise InputError(
            f"image {name}: cannot be read ({found}); expected an image file that Pillow opens"
        ) from error


def _first_line(error: Exception) -> str:
    # Pillow quotes a BytesIO by its address, which says nothing to anyone.
    lines = str(error).splitlines() or [type(error).__name__]
    return "no known image format" if "cannot identify image" in lines[0] else lines[0]


IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)


def is_image_name(name: str) -> bool:
    """Says whether a file is taken for an image: by its suffix, and not hidden."""
    return not name.startswith(".") and pathlib.PurePath(name).suffix.lower() in IMAGE_SUFFIXES
