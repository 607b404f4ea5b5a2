"""The manifest: what it says, and whether the folder agrees."""

import dataclasses
import json

import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.export.image_folder import write_images
from delt_jax.export.manifest import ImageRecord, read_manifest, verify, write_manifest

HEADER = {"method": "delt", "settings": {"ipc": 2}, "teacher": {"arch": "conv3", "top1": 97.5}}


@pytest.fixture
def distilled(tmp_path):
    """Two classes of two images, written in the order of another day."""
    records = [
        ImageRecord(1, "dog", 0, 0, 40, "dog/7.png"),
        ImageRecord(0, "cat", 1, 1, 20, "cat/3.png"),
        ImageRecord(0, "cat", 0, 0, 40, "cat/9.png"),
        ImageRecord(1, "dog", 1, 1, 20),
    ]
    pixels = np.random.default_rng(0).random((4, 6, 6, 3))
    written = write_images(tmp_path, pixels, records, class_names=["cat", "dog"])
    write_manifest(tmp_path, written, HEADER)
    return tmp_path


def test_round_trip_sorted_by_class_and_slot(distilled):
    manifest = verify(distilled)
    assert manifest.header == HEADER
    assert [(r.class_name, r.slot, r.join_round, r.iterations) for r in manifest.records] == [
        ("cat", 0, 0, 40),
        ("cat", 1, 1, 20),
        ("dog", 0, 0, 40),
        ("dog", 1, 1, 20),
    ]
    assert manifest.records[0].source == "cat/9.png"
    assert manifest.records[0].file == "train/cat/class000_id000.png"
    value = json.loads((distilled / "manifest.json").read_text())
    assert value["schema"] == 1
    assert list(value["images"][0]) == [
        *("class_index", "class_name", "slot", "join_round", "iterations"),
        *("source", "file", "sha256"),
    ]


def test_what_programs_leave_is_not_too_many(distilled):
    for name in ("Thumbs.db", ".DS_Store", "@eaDir/class000_id000.png"):
        path = distilled / "train" / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?")
    assert len(verify(distilled).records) == 4


def test_first_bad_file_is_named(distilled):
    (distilled / "train" / "dog" / "class001_id000.png").write_bytes(b"other")
    with pytest.raises(InputError, match=r"dog/class001_id000\.png: changed, SHA-256"):
        verify(distilled)
    (distilled / "train" / "cat" / "class000_id001.png").unlink()
    with pytest.raises(InputError, match=r"cat/class000_id001\.png: No such file"):
        verify(distilled)


def test_strays_are_named_by_verify_and_cleared_by_a_new_manifest(distilled):
    cat = distilled / "train" / "cat"
    (cat / "class000_id002.png").write_bytes(b"of an earlier run with a larger ipc")
    with pytest.raises(InputError, match=r"class000_id002\.png: not in manifest\.json"):
        verify(distilled)
    (cat / "notes.txt").write_text("not ours: stays")
    write_manifest(distilled, verify_records(distilled), HEADER)
    assert not (cat / "class000_id002.png").exists()
    with pytest.raises(InputError, match=r"notes\.txt: not in manifest\.json"):
        verify(distilled)


def verify_records(directory):
    return read_manifest(directory).records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.update(schema=9), "schema 9; expected 1"),
        (lambda value: value["images"][1].pop("class_index"), "not a list of images"),
        (lambda value: value["images"][1].update(file="../../x.png"), "expected a path below"),
        (lambda value: value["images"][1].update(file="/etc/passwd"), "expected a path below"),
    ],
)
def test_wrong_manifest(distilled, change, message):
    path = distilled / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        read_manifest(distilled)


def test_no_manifest(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json: not there"):
        read_manifest(tmp_path)


def test_records_must_be_written_and_distinct(distilled):
    records = read_manifest(distilled).records
    with pytest.raises(InputError, match="class 0 slot 0 is recorded twice"):
        write_manifest(distilled, [*records, records[0]], HEADER)
    with pytest.raises(InputError, match="class 0 slot 0 has no file"):
        write_manifest(distilled, [dataclasses.replace(records[0], file="")], HEADER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": ["a", "b", "c"], "std": [1, 1, 1]}, "three finite numbers each"),
        ({"mean": None, "std": None}, "three finite numbers each"),
        ({"mean": 5, "std": 5}, "three finite numbers each"),
        ({"mean": [0.5] * 3}, "three finite numbers each"),
        ({"mean": [0.5] * 3, "std": [0] * 3}, "a standard deviation of 0.0; expected at least"),
        ({"mean": ["x" * 9999] * 3, "std": [1, 1, 1]}, "three finite numbers each"),
        ({"data": "\ud800"}, "text that UTF-8 cannot hold"),
        ({"method": "\ud800"}, "text that UTF-8 cannot hold"),
        ({"x": [{"\ud800": 1}]}, "text that UTF-8 cannot hold"),
        ({"method": ["delt"]}, "method .*delt.*; expected text"),
        ({"data": None}, "data 'None'; expected text"),
        ({"teacher": "conv3"}, "teacher 'conv3'; expected an object"),
        ({"synthesis": None}, "synthesis 'None'; expected an object"),
        ({"teacher": {"top1": 10**400}}, "top1 '1000.* of teacher; expected percent, or null"),
        ({"teacher": {"top1": True}}, "top1 'True' of teacher"),
        ({"teacher": {"top1": float("nan")}}, "top1 'nan' of teacher"),
    ],
)
def test_a_header_of_other_kinds_is_refused(distilled, changes, message):
    path = distilled / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(distilled)
    assert "manifest.json" in str(caught.value)
    assert len(str(caught.value)) < 500
