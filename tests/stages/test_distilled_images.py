"""Stages of one run share the distilled images; nothing is kept after it."""

import gc

import numpy as np

from delt_jax.export import image_folder
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, write_manifest
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages.distilled_images import distilled_images


def test_the_next_stage_decodes_nothing(tmp_path, monkeypatch):
    workdir = WorkDir(tmp_path)
    records = [ImageRecord(k, f"c{k}", 0) for k in range(3)]
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    write_manifest(workdir.distilled, write_images(workdir.distilled, pixels, records), {})
    decoded, decode = [], image_folder.decode
    monkeypatch.setattr(
        image_folder, "decode", lambda data, name: decoded.append(name) or decode(data, name)
    )
    assert distilled_images(workdir).labels.tolist() == [0, 1, 2]
    count = len(decoded)
    gc.collect()
    distilled_images(workdir)
    assert len(decoded) == count
    del workdir
    gc.collect()
    assert len(image_folder._shared) == 0
