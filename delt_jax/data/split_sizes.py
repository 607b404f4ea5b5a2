"""How many images the data sets of the table have, for estimates where they are not at hand."""

from typing import NamedTuple


class SplitSizes(NamedTuple):
    """Images of each split."""

    train: int
    test: int


# The numbers of their publishers (TensorFlow Datasets' catalogue lists the same). ImageNet-100 is
# many lists of classes, and tf_flowers one split that is cut by share: their sources are counted.
SPLIT_SIZES: dict[str, SplitSizes] = {
    "digits": SplitSizes(1500, 297),  # delt_jax/data/arrays.py
    "cifar10": SplitSizes(50_000, 10_000),
    "cifar100": SplitSizes(50_000, 10_000),
    "tiny-imagenet": SplitSizes(100_000, 10_000),
    "imagenette": SplitSizes(9_469, 3_925),
    "imagewoof": SplitSizes(9_025, 3_929),
    "imagenet1k": SplitSizes(1_281_167, 50_000),
}
