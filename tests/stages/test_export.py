"""The export stage."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from delt_jax.errors import InputError
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, verify, write_manifest
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import export


@pytest.fixture
def workdir(tmp_path):
    workdir = WorkDir(tmp_path / "run")
    records = [ImageRecord(0, "cat", 0), ImageRecord(1, "dog", 0)]
    written = write_images(workdir.distilled, np.zeros((2, 4, 4, 3)), records)
    write_manifest(workdir.distilled, written, {"method": "delt"})
    return workdir


@pytest.mark.parametrize("config", [{}, {"export": {"directory": ""}}])
def test_verifies_alone_where_no_directory_is_named(workdir, config):
    result = export.run(ConfigDict(config), workdir)
    assert result == export.ExportResult(images=2, directory=None)
    row = json.loads(workdir.metrics_jsonl.read_text())
    assert (row["stage"], row["images"]) == ("export", 2)


def test_exports(workdir, tmp_path):
    options = {"directory": str(tmp_path / "out"), "format": "jpg", "naming": "reference"}
    result = export.run(ConfigDict({"export": options}), workdir)
    assert result.directory == tmp_path / "out"
    records = verify(tmp_path / "out").records
    assert records[1].file == "train/new001/class001_id000.jpg"


def test_changed_image_is_named(workdir):
    (workdir.distilled / "train" / "001_dog" / "class001_id000.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"001_dog/class001_id000\.png: changed"):
        export.run(ConfigDict(), workdir)


def test_unknown_layout(workdir):
    with pytest.raises(InputError, match=r"export\.layout 'zip': expected one of image_folder"):
        export.run(ConfigDict({"export": {"layout": "zip"}}), workdir)
