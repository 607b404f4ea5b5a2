"""Sources that lie in memory: NumPy archives and the digits of scikit-learn."""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image

from delt_jax.data.image_source import about_label, distinct, numbered_classes, numbered_names
from delt_jax.errors import InputError

_LAYOUTS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))  # of archives: Keras's; MedMNIST's
DIGITS_TEST_IMAGES = 297  # leaves 1,500 to train on
DIGITS_SPLIT_SEED = 0


class ArraySource:
    """Images held as one array; see `delt_jax.data.image_source.ImageSource`."""

    split: str = ""

    def __init__(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        labels: Int64[np.ndarray, " n"],
        class_names: Sequence[str],
    ):
        self._images = images
        self.labels = labels
        self.class_names = tuple(class_names)
        self.names = numbered_names(self.class_names, labels)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._images[index]


def open_npz(path: pathlib.Path, split: str, class_names: tuple[str, ...] | None) -> ArraySource:
    """Opens one split of a NumPy archive.

    Args:
      path: an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`, as Keras has them, or
        `train_images`, `train_labels`, `test_images`, `test_labels`, as MedMNIST; and, if it likes,
        `class_names` (texts, or bytes in UTF-8). Images are uint8 of shape `[n, h, w, 3]` or, grey,
        `[n, h, w]` or `[n, h, w, 1]`; labels are integers from 0, `[n]` or `[n, 1]`.
      split: "train" or "test".
      class_names: names to use where the archive has none; None names classes by their number.

    Raises:
      InputError: for anything else, naming the array.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an .npz archive")
    if not zipfile.is_zipfile(path):  # np.load would leave such a file open
        raise InputError(f"{path}: cannot be read as an .npz archive (damaged, or something else)")
    try:
        # allow_pickle=False: an archive from elsewhere cannot run code.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            layouts = [[key.format(split) for key in layout] for layout in _LAYOUTS]
            at = next((k for k, keys in enumerate(layouts) if keys[0] in archive), 0)
            keys = layouts[at]
            missing = [key for key in keys if key not in archive]
            if missing:
                raise InputError(
                    f"{path}: no array {missing[0]!r}, found {', '.join(archive) or 'none'}; "
                    "expected x_train, y_train, x_test, y_test"
                )
            if split == "test":
                _check_other_images(path)
            images, labels = archive[keys[0]], archive[keys[1]]
            named_by = _LAYOUTS[at][1].format("train")
            if named_by not in archive:  # a test set alone
                named_by = keys[1]
            train_labels = archive[named_by]
            if "class_names" in archive:
                class_names = distinct(archive["class_names"].ravel().tolist(), f"{path}: ")
    except InputError:
        raise
    except Exception as error:  # zipfile and NumPy raise almost anything on broken bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: cannot be read as an .npz archive ({reason})") from error
    if class_names is None:
        what = f"{path}: {named_by}"
        class_names = numbered_classes(_class_labels(train_labels, what), what)
    return make_source(images, labels, class_names, keys, f"{path}: ")


def make_source(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str] | None,
    keys: Sequence[str] = ("images", "labels"),
    where: str = "",
) -> ArraySource:
    """Checks arrays and makes a source of them.

    Args:
      images: as in `open_npz`.
      labels: likewise.
      class_names: of all classes; None names them by their number.
      keys: what errors call the two arrays.
      where: what they say before that.

    Raises:
      InputError: naming the array that is something else.
    """
    images = _rgb(images, where + keys[0])
    labels = _class_labels(labels, where + keys[1])
    if len(labels) != len(images):
        raise InputError(
            f"{where}{keys[0]} holds {len(images)} images but {keys[1]} {len(labels)} labels"
        )
    if class_names is None:
        class_names = numbered_classes(labels, where + keys[1])
    if labels.max() >= len(class_names):
        index = int(labels.argmax())
        raise InputError(
            f"{where}{keys[1]}[{index}] is {labels[index]}; expected a label from 0 to "
            f"{len(class_names) - 1} ({about_label(int(labels[index]), len(class_names))})"
        )
    return ArraySource(images, labels, distinct(class_names, where))


def open_digits(split: str, image_size: int) -> ArraySource:
    """Opens the 8 x 8 digits of scikit-learn, as RGB of the side asked for.

    1,797 images by 43 writers; ours is a fixed stratified split into 1,500 and 297.

    Args:
      split: "train" or "test".
      image_size: the side in pixels; upscaled bilinearly.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    ink, targets = map(np.asarray, load_digits(return_X_y=True))  # ink [1797, 64], from 0 to 16
    labels = targets.astype(np.int64)
    in_test = stratified_test_mask(labels, DIGITS_TEST_IMAGES, DIGITS_SPLIT_SEED)
    chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
    grey = np.rint(ink[chosen].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    side = (image_size, image_size)
    images = np.stack(
        [
            np.asarray(
                Image.fromarray(image).resize(side, Image.Resampling.BILINEAR).convert("RGB")
            )
            for image in grey
        ]
    )
    return ArraySource(images, labels[chosen], tuple("0123456789"))


def stratified_test_mask(
    labels: Int64[np.ndarray, " n"], test_images: int, seed: int
) -> Bool[np.ndarray, " n"]:
    """Draws a test set in which every class has its share, to within one image.

    Args:
      labels: class of each image.
      test_images: how many to draw altogether.
      seed: of the draw. NumPy's legacy generator, whose streams are frozen, draws.

    Returns:
      A boolean mask of shape `[n]`, true for the test set.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * (test_images / len(labels))
    quotas = np.floor(shares).astype(int)
    # The largest remainders get the images that flooring left over.
    for position in np.argsort(quotas - shares, kind="stable")[: test_images - quotas.sum()]:
        quotas[position] += 1
    random = np.random.RandomState(seed)
    mask = np.zeros(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        mask[random.permutation(np.flatnonzero(labels == label))[:quota]] = True
    return mask


def _check_other_images(path: pathlib.Path) -> None:
    """Refuses test images that are the training images; their sums in the archive are compared."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    train, test = (entries.get(f"x_{split}.npy") for split in ("train", "test"))
    if train and test and (train.CRC, train.file_size) == (test.CRC, test.file_size):
        raise InputError(f"{path}: x_test is x_train; expected test images of their own")


def _rgb(images: np.ndarray, what: str) -> UInt8[np.ndarray, "n h w 3"]:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{what} has shape {images.shape}; expected [n, h, w, 3], [n, h, w, 1] or [n, h, w]"
        )
    if images.dtype != np.uint8:
        raise InputError(f"{what} has dtype {images.dtype}; expected uint8 (0 to 255)")
    return images if images.shape[-1] == 3 else np.broadcast_to(images, (*images.shape[:3], 3))


def _class_labels(labels: np.ndarray, what: str) -> Int64[np.ndarray, " n"]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise InputError(
            f"{what} has shape {labels.shape} and dtype {labels.dtype}; expected integers [n]"
        )
    numbers = labels.astype(np.int64)  # negative too where an unsigned one is too large
    if numbers.min() < 0:
        index = int(numbers.argmin())
        raise InputError(
            f"{what}[{index}] is {labels[index]}; expected a label from 0"
            + (" (-1 mostly stands for no label)" if labels[index] == -1 else "")
        )
    return numbers
