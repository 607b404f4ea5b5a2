"""Distilled images and their stored soft labels in PyTorch, without JAX.

This file needs torch, NumPy, Pillow and safetensors alone: copy it to where you train.

    data = DistilledSet("runs/x/distilled", labels="runs/x/labels")
    for epoch in range(300):
        data.set_epoch(epoch)
        for images, logits in torch.utils.data.DataLoader(data, batch_size=50, shuffle=True):
            ...

Formats: docs/labels.md of delt_jax.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from PIL import Image, ImageOps

_Reader = Callable[[str, int], Any]  # of the row of an image, or of a patch, by its tensor's name

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std
# What is taken for an image, and what programs leave in folders: as delt_jax/data/image_names.py
# has them, which says more.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpx"),
    *(".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi"),
)
STRAYS = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "lost+found", "__pycache__"),
    *("@eadir", "#recycle", "@recycle", "@recently-snapshot"),
)
COMPACT = "delt_jax/compact_labels/1"


class DistilledSet(torch.utils.data.Dataset):
    """Distilled images, each with its class or with what a teacher said of it in an epoch.

    With labels, image i in an epoch is shown as the teacher saw it: cropped, resized, mirrored, and
    a patch of its partner pasted in, which the set looks up itself. So the images may be taken in
    any order, in batches of any size, by any number of workers.

    Attributes:
      images: uint8 `[n, 3, s, s]`.
      targets: the class of each image, int64 `[n]`.
      class_names: in the order of the classes.
      mean: of the normalisation, `[3, 1, 1]`.
      std: of the normalisation, `[3, 1, 1]`.
      epochs: that are stored; 0 without labels.
      temperature: at which the run's own students learned them.

    Args:
      images: `distilled/` of a run, an export with image files, or any ImageFolder.
      labels: `labels/` of a run (a file an epoch) or of an export (compact); None: classes.
      mean: per channel of pixels in [0, 1]; None: of the teacher's inputs, else ImageNet's.
      std: likewise.
      transform: of float pixels `[3, s, s]` in [0, 1], before they are normalised; without labels
        alone, for stored views are shown as they are.

    Raises:
      ValueError: in one line, where a file is missing, damaged, or of another set.
    """

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        files, header = find_images(images)
        pixels = [file.read() for file in files]
        for file, image in zip(files, pixels):
            if image.shape != pixels[0].shape:
                shapes = [" x ".join(map(str, one.shape[:2])) for one in (image, pixels[0])]
                raise ValueError(f"{file.path}: {shapes[0]} pixels; expected {shapes[1]}")
        self.images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        self.targets = torch.tensor([file.label for file in files])
        names = {file.label: file.class_name for file in files}
        self.class_names = tuple(names.get(k, str(k)) for k in range(max(names) + 1))
        self.epochs, self.temperature = 0, 1.0
        self._labels, self._transform = None, transform
        if labels is not None:
            if transform is not None:
                raise ValueError("transform with labels: expected none, stored views are replayed")
            self._labels = _Labels(pathlib.Path(labels).expanduser())
            self._labels.check(self.images)
            self.epochs, self.temperature = self._labels.epochs, self._labels.temperature
            header = self._labels.stored
        mean = mean or header.get("mean") or IMAGENET[0]
        std = std or header.get("std") or IMAGENET[1]
        self.mean, self.std = (torch.tensor(part).view(3, 1, 1) for part in (mean, std))
        # Shared with workers that live on from one epoch to the next.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that is shown next, from 0; beyond those stored it begins again."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pixels, float32 `[3, s, s]`, and logits, float32 `[k]`, or the class."""
        if self._labels is None:
            pixels = self.images[index] / 255
            if self._transform is not None:
                pixels = self._transform(pixels)
            return (pixels - self.mean) / self.std, self.targets[index]
        view, partner, logits = self._labels.at(int(self._epoch) % self.epochs, index)
        pixels = show(self.images[index], view.crop)
        top, left, bottom, right = view.patch
        if top < bottom and left < right:
            other = show(self.images[view.partner], partner)
            pixels[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        return (pixels - self.mean) / self.std, torch.from_numpy(logits)


def show(image: torch.Tensor, crop: Sequence[int]) -> torch.Tensor:
    """Cuts a crop out of an image and resizes it to the image's own size, bilinearly.

    Args:
      image: uint8 `[3, s, s]`.
      crop: top, left, bottom, right in pixels; left > right: mirrored afterwards.

    Returns:
      Pixels in [0, 1], float32 `[3, s, s]`.
    """
    top, left, bottom, right = crop
    part = image[:, top:bottom, min(left, right) : max(left, right)] / 255
    shown = torch.nn.functional.interpolate(
        part[None], size=image.shape[-2:], mode="bilinear", align_corners=False
    )[0]
    return shown.flip(-1) if left > right else shown


class ImageFile(NamedTuple):
    """An image file, its class, and its hash where the manifest has one."""

    path: pathlib.Path
    label: int
    class_name: str
    sha256: str | None

    def read(self) -> np.ndarray:
        """Its pixels, uint8 `[h, w, 3]`; raises `ValueError` where they are not there."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror or error}; expected an image") from None
        if self.sha256 is not None and hashlib.sha256(data).hexdigest() != self.sha256:
            raise ValueError(f"{self.path}: changed; expected the file that the manifest names")
        try:
            with Image.open(io.BytesIO(data)) as image:
                return _rgb(image)
        except Exception as error:  # Pillow's decoders raise almost anything on broken bytes
            raise ValueError(f"{self.path}: no image that can be read") from error

    def check(self) -> None:
        """Raises `ValueError` where the file does not begin as an image does."""
        try:
            with Image.open(self.path):
                pass
        except Exception as error:
            raise ValueError(f"{self.path}: no image that can be read") from error


def _rgb(image: Image.Image) -> np.ndarray:
    """Its pixels as delt_jax/data/decoding.py has them: upright, 16-bit grey scaled to 8."""
    with contextlib.suppress(Exception):  # broken EXIF does not make the pixels worse
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    return np.array(image.convert("RGB"))


def is_stray(name: str) -> bool:
    """Says whether a file or folder is hidden, or was left there by a program."""
    return name.startswith(".") or name.lower() in STRAYS or name.endswith("Zone.Identifier")


def is_image_name(name: str) -> bool:
    """Says whether a file is taken for an image."""
    return not is_stray(name) and pathlib.PurePath(name).suffix.lower() in SUFFIXES


def _images_of_class(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images in a folder and below it, sorted by their names."""
    found = []
    for path, below, files in os.walk(folder):
        below[:] = [name for name in below if not is_stray(name)]
        found += [pathlib.Path(path, name) for name in files if is_image_name(name)]
    if not found:
        raise ValueError(f"{folder}: no image in it; expected at least one")
    return sorted(found, key=str)


def find_images(folder: str | os.PathLike[str]) -> tuple[list[ImageFile], dict[str, Any]]:
    """The images that manifest.json names; without one, those of an ImageFolder or its `train/`.

    Returns:
      The images by class, and what else the manifest says.

    Raises:
      ValueError: in one line, where there are none.
    """
    folder = pathlib.Path(folder).expanduser()
    manifest, files = folder / "manifest.json", []
    header: dict[str, Any] = {}
    if manifest.is_file():
        header = _read_json(manifest)
        inside = folder.resolve()
        try:
            for image in header.pop("images", ()):
                named = (image["class_index"], image["class_name"], image["sha256"])
                files.append(ImageFile(folder / image["file"], *named))
                # A set may be a stranger's: neither ".." nor a link leads to other files.
                if not files[-1].path.resolve().is_relative_to(inside):
                    raise ValueError(f"{files[-1].path} lies outside of {folder}")
        except (AttributeError, TypeError, LookupError, OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{manifest}: not the manifest of a distilled set ({error})") from None
    else:
        # One without folders in it is a class of that name, as CIFAR-100 has it.
        nested = any(path.is_dir() for path in (folder / "train").glob("*"))
        root = folder / "train" if nested else folder
        names = (p.name for p in root.glob("*") if p.is_dir() and not is_stray(p.name))
        for number, name in enumerate(sorted(names)):
            files += [ImageFile(path, number, name, None) for path in _images_of_class(root / name)]
    if not files:
        raise ValueError(f"{folder}: no images; expected a distilled set or folders of classes")
    return files, header


class _View(NamedTuple):
    """How an image is shown: its crop (as in `show`), its partner, and the patch pasted from it."""

    crop: Sequence[int]
    partner: int
    patch: Sequence[int]


class _Labels:
    """Stored labels of either layout, read image by image."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        record = _read_json(folder / "labels.json")
        if "stored" not in record:
            raise ValueError(f"{folder / 'labels.json'}: no labels are stored; expected some")
        self.stored: dict[str, Any] = record["stored"]
        self.epochs: int = self.stored["epochs"]
        self.temperature: float = record["temperature"]
        layout = record.get("layout")
        if layout is not None and layout["name"] != COMPACT:
            raise ValueError(
                f"{folder / 'labels.json'}: layout {layout['name']!r}; expected {COMPACT}"
            )
        self._per_file = None if layout is None else layout["epochs_per_file"]
        # An epoch and the reader of its file, in each worker its own.
        self._opened: tuple[int, _Reader] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are spawned: no open file travels."""
        return {**vars(self), "_opened": None}

    def check(self, images: torch.Tensor) -> None:
        """Raises `ValueError` where these are not the images that the labels are of."""
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        if hashlib.sha256(pixels.tobytes()).hexdigest() != self.stored["images_sha256"]:
            n, size = self.stored["images"], self.stored["size"]
            raise ValueError(
                f"{self.folder}: labels of other images, or in another order; expected those of "
                f"the {n} images of {size} x {size} pixels that relabel saw, decoded alike"
            )

    def at(self, epoch: int, index: int) -> tuple[_View, Sequence[int], np.ndarray]:
        """Of an image in an epoch: its view, the crop of its partner, float32 logits `[k]`."""
        if self._opened is None or self._opened[0] != epoch:
            self._opened = (epoch, self._open(epoch))
        get = self._opened[1]
        partner = int(get("partners", index))
        if self._per_file is None:
            patch = get("patches", index)
        else:
            patch = get("patches", int(get("patch_of", index)))
        view = _View(self._crop(get, index), partner, patch.tolist())
        return view, self._crop(get, partner), self._logits(get, index)

    def _crop(self, get: _Reader, index: int) -> list[int]:
        crop = get("crops", index).tolist()
        if self._per_file is None:
            top, left, height, width = crop
            right = left + width
            crop = [top, left, top + height, right]
            if get("flips", index):
                crop = [top, right, top + height, left]
        return crop

    def _logits(self, get: _Reader, index: int) -> np.ndarray:
        values = get("logits", index).astype(np.float32)
        if self.stored["dtype"] == "int8":
            values *= np.float32(get("scales", index))
        if not self.stored["top_k"]:
            return values
        full = np.full(self.stored["classes"], values[-1])  # what is left shares one value
        full[get("indices", index)] = values[:-1]
        return full

    def _open(self, epoch: int) -> _Reader:
        """A function that reads the row of an image, or of a patch, in an epoch's tensor."""
        if self._per_file is None:
            path, row = self.folder / f"epoch_{epoch:04d}.safetensors", None
            expected = {"epoch": str(epoch)}
        else:
            number, row = divmod(epoch, self._per_file)
            expected = {"first_epoch": str(epoch - row)}
            path = self.folder / f"labels_{number:05d}.safetensors"
        try:
            file = safetensors.safe_open(path, "np")
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{path}: cannot be read ({error}); expected stored labels") from None
        expected["fingerprint"] = self.stored["fingerprint"]
        if not expected.items() <= (file.metadata() or {}).items():
            raise ValueError(f"{path}: not of these labels; expected what labels.json tells of")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118

        def get(name: str, index: int) -> Any:
            return slices[name][index] if row is None else slices[name][row, index]

        return get


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}; expected what a run writes") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
