"""A finished run with stored labels, as exports and readers of labels meet it."""

import types

from tiny_run import make_config, save_distilled, save_teacher

from delt_jax.export.manifest import read_manifest
from delt_jax.export.stored_labels import open_files
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import relabel

BATCH, EPOCHS, IMAGES = 4, 3, 9  # of which the last batch is smaller


def make_run(folder, **labels):
    """Three epochs of nine images, with options of `config.labels`; returns (workdir, images)."""
    config, workdir = make_config(folder), WorkDir(folder / "run")
    config.ipc = 3
    config.evaluate.labels = ("stored",)
    config.evaluate.epochs, config.evaluate.batch_size = EPOCHS, BATCH
    config.labels.update(labels)
    save_teacher(workdir)
    images, _ = save_distilled(workdir, config)
    relabel.run(config, workdir)
    return workdir, images


def source_of(workdir):
    """The distilled set as exports are given it."""
    manifest = read_manifest(workdir.distilled)
    return types.SimpleNamespace(
        directory=workdir.distilled, workdir=workdir, records=manifest.records
    )


def files_of(workdir):
    return open_files(workdir.labels)[0]
