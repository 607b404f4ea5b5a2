"""Patches and mosaics after the selection: optimised or left as they are, evaluated, reported."""

import json

import numpy as np
import pytest
from tiny_run import CLASSES, SIZE, make_config, save_teacher, train_source

from delt_jax.data.patches import initial_images
from delt_jax.data.selection import Selection, write_selection
from delt_jax.data.sources import describe
from delt_jax.export.image_folder import read_distilled
from delt_jax.export.manifest import read_manifest
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import relabel, report, synthesize, training_sets

BOXES = np.stack(np.meshgrid([0, 2], [1, 3], [5], [5], indexing="ij"), -1).reshape(-1, 4)


def mosaics():
    """Twenty-four patches of distinct images: two mosaics of four for each of three classes."""
    indices = 3 * np.arange(8) + np.arange(3)[:, None]
    boxes = np.broadcast_to(np.tile(BOXES, (2, 1)), (3, 8, 4))
    return Selection(indices, np.full((3, 8), 0.5), boxes, factor=2)


@pytest.fixture
def prepared(tmp_path):
    """A work directory up to a selection of mosaics, and a config of three class batches."""
    config, workdir = make_config(tmp_path), WorkDir(tmp_path / "run")
    config.method = "rded"
    config.select.update(crops=5, factor=2, mode="top")
    config.synthesis.update(iterations=0, early_late=False, class_batch=2)
    config.distilled.update(format="png", rounding="nearest")
    save_teacher(workdir)
    write_selection(workdir, train_source(config), mosaics())
    return config, workdir


def test_without_iterations_the_images_are_those_of_the_selection(prepared):
    config, workdir = prepared
    result = synthesize.run(config, workdir)
    assert (result.image_iterations, result.promised, result.constant) == (0, 0, 0)
    images, labels, records = read_distilled(workdir.distilled)
    source = train_source(config)
    np.testing.assert_array_equal(images, initial_images(source, mosaics(), SIZE))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert {(record.join_round, record.iterations) for record in records} == {(0, 0)}
    names = [source.names[index] for index in mosaics().indices[1, [1, 3, 5, 7]]]
    assert (records[3].source, records[3].sources) == (names[0], tuple(names))
    assert records[3].boxes == tuple(map(tuple, BOXES[[1, 3, 1, 3]].tolist()))
    assert read_manifest(workdir.distilled).header["method"] == "rded"
    schedule = workdir.read_json(workdir.schedule_json)
    assert (schedule["iterations"], schedule["image_iterations_done"]) == (0, 0)
    assert schedule["class_batches"] == 3


def test_finished_class_batches_are_kept_without_iterations_too(prepared):
    config, workdir = prepared
    synthesize.run(config, workdir)
    before = {path: path.read_bytes() for path in workdir.distilled.rglob("*.png")}
    entries = sorted((workdir.synthesis / "batches").glob("*.json"))
    stamp = entries[0].stat().st_mtime_ns
    entries[1].unlink()
    synthesize.run(config, workdir)
    assert entries[0].stat().st_mtime_ns == stamp
    assert {path: path.read_bytes() for path in workdir.distilled.rglob("*.png")} == before


def test_whole_images_may_be_left_as_they_are_too(prepared):
    config, workdir = prepared
    config.select.update(crops=0, factor=1, mode="medium")
    config.synthesis.early_late = True
    chosen = Selection(np.array([[0, 3], [4, 1], [2, 8]]), np.full((3, 2), 0.5))
    write_selection(workdir, train_source(config), chosen)
    synthesize.run(config, workdir)
    images, _, records = read_distilled(workdir.distilled)
    np.testing.assert_array_equal(images, initial_images(train_source(config), chosen, SIZE))
    assert (records[0].sources, records[0].boxes) == ((), ())
    assert read_manifest(workdir.distilled).header["method"] == "rded"


def test_the_synthesis_begins_as_the_mosaics(prepared):
    config, workdir = prepared
    config.synthesis.update(iterations=2, round_iterations=1, learning_rate=0.0, log_every=1)
    result = synthesize.run(config, workdir)
    assert result.image_iterations == 6 * 2
    images, _, records = read_distilled(workdir.distilled)
    np.testing.assert_array_equal(images, initial_images(train_source(config), mosaics(), SIZE))
    assert len(records[0].sources) == 4
    assert read_manifest(workdir.distilled).header["method"] == "rded"


def test_the_selected_set_of_a_student_is_of_the_same_mosaics(prepared):
    config, workdir = prepared
    synthesize.run(config, workdir)
    spec = describe(config.data.name, config.data.source, SIZE)
    sets = training_sets.open_sets(config, workdir, spec)
    np.testing.assert_array_equal(sets["selected"](1).images, sets["distilled"](1).images)
    np.testing.assert_array_equal(sets["selected"](1).labels, sets["distilled"](1).labels)
    assert sets["random"](1).images.shape == (6, SIZE, SIZE, 3)
    # Of fewer images per class the first ones.
    config.ipc, config.evaluate.sets = 1, ("selected",)
    fewer = training_sets.open_sets(config, workdir, spec)["selected"](1)
    np.testing.assert_array_equal(fewer.images, sets["selected"](1).images[::2])
    assert fewer.labels.tolist() == [0, 1, 2]


def test_the_report_says_that_nothing_was_synthesised(prepared):
    config, workdir = prepared
    synthesize.run(config, workdir)
    relabel.run(config, workdir)
    workdir.write_json(workdir.config_json, json.loads(config.to_json_best_effort()))
    result = report.run(config, workdir)
    assert result.results["method"] == "rded"
    cost = result.results["cost"]
    assert (cost["image_iterations"], cost["promised"], cost["constant"]) == (0, 0, 0)
    assert (cost["saved_fraction"], cost["seconds_saved_fraction"]) == (None, None)
    table = report.summary_table(result.results)
    assert table.endswith("no synthesis: the images are real ones as they were selected")
    page = result.report_html.read_text()
    assert "<h1>RDED on colours, 2 images per class</h1>" in page
    assert "No synthesis: these are real images, or patches of them, as they were selected" in page
    assert 'id="schedule"' not in page
    assert 'class="photo"' not in page
    assert train_source(config).names[mosaics().indices[2, 6]] in page


def test_the_report_shows_the_mosaics_that_the_images_began_as(prepared):
    config, workdir = prepared
    config.synthesis.update(iterations=1, round_iterations=1, learning_rate=0.0, log_every=1)
    synthesize.run(config, workdir)
    photo, note = report._photos(config, SIZE)
    assert note == ""
    expected = initial_images(train_source(config), mosaics(), SIZE)
    for record, image in zip(read_distilled(workdir.distilled)[2], expected, strict=True):
        found = photo(record)
        assert found is not None
        np.testing.assert_array_equal(found, image)
    page = report.run(config, workdir).report_html.read_text()
    assert page.count('class="photo"') == 6
    assert CLASSES[0] in page
