"""A data set that is learned in seconds: three classes of noisy colours, 8 x 8; and its config."""

import jax
import numpy as np

from configs import base
from delt_jax.data.sources import open_source
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.models import registry
from delt_jax.models.network import Network, save_network

CLASSES = ("red", "green", "blue")
SIZE = 8
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def coloured(labels, seed):
    """Noise with one channel brighter than the others."""
    images = np.random.default_rng(seed).integers(0, 140, (len(labels), SIZE, SIZE, 3))
    images[np.arange(len(labels)), :, :, labels] += 100
    return images.astype(np.uint8)


def write_archive(path, train=36, test=14):
    train_labels, test_labels = np.arange(train) % 3, np.arange(test) % 3
    np.savez(
        path,
        x_train=coloured(train_labels, 0),
        y_train=train_labels,
        x_test=coloured(test_labels, 1),
        y_test=test_labels,
        class_names=CLASSES,
    )


def make_config(folder):
    """A config whose data are in `folder`, with every length cut to what a test can wait for."""
    archive = folder / "colours.npz"
    if not archive.exists():
        write_archive(archive)
    c = base.get_base()
    c.ipc = 2
    c.data.name, c.data.source, c.data.image_size = "colours", str(archive), SIZE
    c.teacher.arch = "conv3"
    c.teacher.squeeze.epochs, c.teacher.squeeze.batch_size = 3, 10
    c.teacher.squeeze.learning_rate, c.teacher.squeeze.warmup_epochs = 0.02, 0.0
    c.teacher.squeeze.pad = 1
    c.evaluate.epochs, c.evaluate.eval_every, c.evaluate.seeds = 3, 2, (1, 2)
    c.evaluate.batch_size = 3
    c.evaluate.randaugment_ops = 0  # for it takes seconds to compile
    return c


def save_teacher(workdir):
    """An untrained teacher, which is enough to label."""
    module = registry.create("conv3", 3, SIZE)
    images = np.zeros((1, SIZE, SIZE, 3), np.float32)
    variables = jax.jit(module.init)(jax.random.key(0), images)
    teacher = Network("conv3", 3, SIZE, variables, MEAN, STD, CLASSES, 50.0)
    save_network(teacher, workdir.teacher)
    return teacher


def save_distilled(workdir, config, seed=7):
    """A distilled set of new images; returns them with their labels."""
    labels = np.repeat(np.arange(3), config.ipc)
    images = coloured(labels, seed)
    records = [
        ImageRecord(int(label), CLASSES[label], slot % config.ipc)
        for slot, label in enumerate(labels)
    ]
    records = write_images(workdir.distilled, images, records, format="png")
    write_manifest(workdir.distilled, records, {})
    return images, labels


def train_source(config):
    return open_source(config.data.name, config.data.source, "train", SIZE)
