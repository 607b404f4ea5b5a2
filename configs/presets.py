"""Methods as overrides of a config, never copies of it."""

import ml_collections


def constant(c: ml_collections.ConfigDict) -> None:
    """Constant iterations: all images of the same selection are optimised from the start."""
    c.synthesis.early_late = False


def published(c: ml_collections.ConfigDict) -> None:
    """The normalisations of the published code, which differ between its stages.

    Ranking and evaluation use ImageNet's statistics for every data set, recovery the data set's own.
    """
    c.select.statistics = "imagenet"
    c.synthesis.statistics = "dataset"
    c.evaluate.statistics = "imagenet"
    c.teacher.statistics = "imagenet"
