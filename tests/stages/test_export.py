"""The export stage."""

import json

import pytest
from tiny_run import make_config, save_distilled

from delt_jax import pipeline
from delt_jax.errors import InputError
from delt_jax.export.export_folder import problems
from delt_jax.export.manifest import verify
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import export


@pytest.fixture
def config(tmp_path):
    return make_config(tmp_path)


@pytest.fixture
def workdir(tmp_path, config):
    workdir = WorkDir(tmp_path / "run")
    save_distilled(workdir, config)
    return workdir


def test_verifies_alone_where_no_format_is_asked_for(workdir, config):
    assert export.run(config, workdir) == export.ExportResult(images=6, folders={})
    row = json.loads(workdir.metrics_jsonl.read_text())
    assert (row["stage"], row["images"], row["formats"]) == ("export", 6, [])
    assert not workdir.export.exists()


def test_exports_into_the_work_directory_or_another(workdir, config, tmp_path):
    config.export.formats = ("npz", "image_folder")
    config.export.naming = "reference"
    result = export.run(config, workdir)
    assert result.folders == {name: workdir.export / name for name in ("npz", "image_folder")}
    assert verify(result.folders["image_folder"]).records[2].file.startswith("train/new001/")
    config.export.directory = str(tmp_path / "out")
    assert export.run(config, workdir).folders["npz"] == tmp_path / "out" / "npz"
    assert problems(tmp_path / "out" / "npz") == []


def test_changed_image_is_named(workdir, config):
    path = sorted(workdir.distilled.rglob("*.png"))[-1]
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{path.name}: changed"):
        export.run(config, workdir)


def test_other_formats_may_be_asked_for_later(workdir, config):
    for stage in ("squeeze", "select", "synthesize"):
        workdir.write_json(workdir.stages / f"{stage}.json", {"inputs": {}, "seconds": 1.0})
    pipeline.run(config, workdir, ["export"], say=lambda line: None)
    config.export.formats = ("npz",)
    results = pipeline.run(config, workdir, ["export"], say=lambda line: None)
    assert results["export"].folders == {"npz": workdir.export / "npz"}
