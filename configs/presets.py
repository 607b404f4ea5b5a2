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


def convnet_teacher(c: ml_collections.ConfigDict) -> None:
    """A ConvNet as the field trains its networks: SGD at .01, momentum .9, decay 5e-4, batches of 256.

    VICO-UoE/DatasetCondensation utils.py; but the cosine instead of one step down, and Nesterov's momentum.
    """
    squeeze = c.teacher.squeeze
    squeeze.epochs = 100
    squeeze.batch_size = 256
    squeeze.learning_rate = 0.01
    squeeze.momentum = 0.9
    squeeze.weight_decay = 5e-4
    squeeze.label_smoothing = 0.0
    squeeze.warmup_epochs = 1.0
