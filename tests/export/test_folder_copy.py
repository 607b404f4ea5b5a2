"""The format image_folder: names, bytes, conversions, and reading it back."""

import dataclasses

import numpy as np
import pytest
from digits_set import write_digits

from delt_jax.export import formats
from delt_jax.export.image_folder import encode, read_distilled, write_images
from delt_jax.export.manifest import ImageRecord, read_manifest, verify, write_manifest


@pytest.fixture
def distilled(tmp_path):
    write_digits(tmp_path / "distilled")
    return tmp_path / "distilled"


def copy(distilled, tmp_path, **options):
    return formats.export(distilled, tmp_path / "out", ["image_folder"], options)["image_folder"]


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*g"))


def test_bytes_and_records_are_kept(distilled, tmp_path):
    folder = copy(distilled, tmp_path)
    assert names(folder)[0] == "train/000_zero/class000_id000.png"
    before, after = read_manifest(distilled), verify(folder)
    for record, original in zip(after.records, before.records, strict=True):
        assert (folder / record.file).read_bytes() == (distilled / original.file).read_bytes()
        assert dataclasses.replace(record, file=original.file) == original
    made = after.header.pop("export")
    assert after.header == before.header
    assert made["format"] == "image_folder" and made["options"]["naming"] == "class"


def test_the_names_of_the_published_code(distilled, tmp_path):
    folder = copy(distilled, tmp_path, encoding="jpg", quality=75, naming="reference")
    assert names(folder)[8] == "train/new001/class001_id000.jpg"
    images, _, _ = read_distilled(distilled)
    assert (folder / names(folder)[8]).read_bytes() == encode(images[8], "jpg", 75)


def test_jpeg_to_png_keeps_every_pixel(tmp_path):
    write_digits(tmp_path / "distilled", format="jpg", quality=75)
    folder = copy(tmp_path / "distilled", tmp_path, encoding="png")
    assert all(name.endswith(".png") for name in names(folder))
    np.testing.assert_array_equal(
        read_distilled(folder)[0], read_distilled(tmp_path / "distilled")[0]
    )


def test_an_export_can_be_exported(distilled, tmp_path):
    folder = copy(distilled, tmp_path)
    again = formats.export(folder, tmp_path / "again", ["image_folder"])["image_folder"]
    assert names(again) == names(folder)


def test_no_class_name_leads_out_of_the_folder(tmp_path):
    classes = ("../../out", "/etc/passwd", "..", ".hidden", "a\\b", "C:", "nul\0l", "été 日本")
    records = [ImageRecord(k, name, 0) for k, name in enumerate(classes)]
    written = write_images(
        tmp_path / "run/distilled", np.zeros((8, 4, 4, 3)), records, naming="reference"
    )
    write_manifest(tmp_path / "run/distilled", written, {})
    before = sorted(tmp_path.rglob("*"))
    folder = copy(tmp_path / "run/distilled", tmp_path)
    assert [name.split("/")[1] for name in names(folder)] == [
        "000__.._out",
        "001__etc_passwd",
        "002_class",
        "003_hidden",
        "004_a_b",
        "005_C_",
        "006_nul_l",
        "007_été 日本",
    ]
    new = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
