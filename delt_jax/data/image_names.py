"""Names of files: which of them are images, and which a program left there for itself.

Needs neither JAX nor NumPy: `delt_jax.torch` goes by it too. (Its `dataset.py`, which is made to be
copied out of the package, holds these two functions once more; a test compares them.)
"""

import collections
import pathlib
from collections.abc import Iterable

# Endings of photographs and drawings that Pillow opens. What else it opens are icons, documents,
# films, measurements and plots.
IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpx"),
        *(".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi"),
    )
)

# Files and folders that Windows, macOS, Linux, Synology and QNAP make, in lower case.
_STRAYS = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("__macosx", "icon\r", "lost+found", "__pycache__"),
        *("@eadir", "#recycle", "@recycle", "@recently-snapshot"),
    )
)


def is_stray(name: str) -> bool:
    """Says whether a file or folder is none of the user's: hidden, or left there by a program."""
    return name.startswith(".") or name.lower() in _STRAYS or name.endswith("Zone.Identifier")


def is_image_name(name: str) -> bool:
    """Says whether a file is taken for an image: by its ending, in upper or lower case."""
    return not is_stray(name) and pathlib.PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def count_endings(names: Iterable[str]) -> collections.Counter[str]:
    """Counts files by their endings, in lower case.

    >>> sorted(count_endings(["a.HEIC", "b.heic", "README"]).items())
    [('.heic', 2), ('no ending', 1)]
    """
    return collections.Counter(
        pathlib.PurePath(name).suffix.lower() or "no ending" for name in names
    )
