"""Bytes to pixels: one way to decode an image file, whatever source it came from."""

import io
import os
import struct

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from delt_jax.errors import InputError
from delt_jax.runtime import faults


def decode(data: bytes | os.PathLike[str], name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB.

    Rotated as its EXIF says, where that can be read; grey, palette and CMYK images converted; of an
    animation the first frame; alpha dropped; 16-bit channels scaled to 8 bits.

    NOTE(parity): the published code ignores EXIF rotation and saturates 16-bit grey.

    Args:
      data: the bytes of the file, or its path.
      name: what an error calls it.

    Raises:
      InputError: where it is absent, truncated, no image, larger than Pillow takes for sane
        (179 million pixels), or of floats, whose range nothing tells.
      OSError, MemoryError: where the machine has failed and not the file; see `faults.pass_on`.
    """
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            return np.array(_to_rgb(_upright(image, name)))
    except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
        faults.pass_on(error, name)
        found = "not there" if isinstance(error, FileNotFoundError) else _first_line(error)
        shown = name if name.isprintable() else repr(name)
        raise InputError(
            f"image {shown}: cannot be read ({found}); expected an image file that Pillow opens"
        ) from error


# What Pillow raises on broken EXIF.
_BROKEN = (
    *(OSError, SyntaxError, struct.error, ValueError, TypeError, LookupError),
    *(ArithmeticError, AttributeError),
)


def _upright(image: Image.Image, name: str) -> Image.Image:
    # Broken EXIF, of which ImageNet has some, does not make the pixels worse. Should the pixels be
    # broken too, they raise again where they are converted.
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN as error:
        faults.pass_on(error, name)
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit float pixels")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way; the colours are the same
    return image.convert("RGB")


def _first_line(error: Exception) -> str:
    # Pillow quotes a BytesIO by its address, which says nothing to anyone.
    lines = str(error).splitlines() or [type(error).__name__]
    return "no known image format" if "cannot identify image" in lines[0] else lines[0]
