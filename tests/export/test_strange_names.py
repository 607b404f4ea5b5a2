"""Class names, manifests and links that try to leave the folder, or to be more than text."""

import hashlib
import json
import pathlib
import tarfile

import numpy as np
import pytest
from digits_set import FORMATS, MEAN, STD
from mutations import STRANGE_NAMES

from delt_jax.errors import InputError
from delt_jax.export import __main__ as command
from delt_jax.export import formats, manifest
from delt_jax.export.distilled_set import DistilledSet
from delt_jax.export.export_folder import SUMS, problems
from delt_jax.export.image_folder import class_folders, write_images
from delt_jax.export.manifest import ImageRecord, read_manifest, write_manifest

NAMES = tuple(name for name in STRANGE_NAMES if name != "\ud800")  # which no manifest takes
HEADER = {"data": "<script>alert(1)</script>](javascript:x)", "method": "---\nlicense: mit\n"}


def write_strange(directory):
    """A set whose classes have strange names, an image each."""
    records = [ImageRecord(k, name, 0, source=name) for k, name in enumerate(NAMES)]
    images = np.arange(len(NAMES) * 48, dtype=np.uint32).astype(np.uint8)
    written = write_images(directory, images.reshape(-1, 4, 4, 3), records)
    write_manifest(directory, written, HEADER | {"mean": MEAN, "std": STD})


@pytest.fixture
def distilled(tmp_path):
    write_strange(tmp_path / "around" / "run" / "distilled")
    return tmp_path / "around" / "run" / "distilled"


@pytest.mark.parametrize("naming", ["class", "reference"])
@pytest.mark.parametrize("names", [NAMES, *([name] for name in NAMES), sorted(NAMES)])
def test_the_folder_of_a_class_is_one_folder(names, naming):
    for folder in class_folders(names, naming):
        assert folder == pathlib.PurePosixPath(folder).name == pathlib.PureWindowsPath(folder).name
        assert folder.isprintable()
        assert not folder.startswith((".", "-", "~"))
        assert not folder.endswith((".", " "))
        assert len(folder.encode()) <= 255
        assert folder.partition(".")[0].lower() not in ("con", "nul")
    assert len(set(class_folders(names, naming))) == len(names)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tensors"])
def test_nothing_is_written_outside_of_an_export(distilled, tmp_path, name):
    pytest.importorskip("array_record" if name == "array_record" else "numpy")
    around = distilled.parent.parent
    before = set(around.rglob("*"))
    folder = formats.export(distilled, around / "out", [name])[name]
    new = set(around.rglob("*")) - before
    assert all(path.is_relative_to(around / "out") for path in new)
    assert {path.name for path in (around / "out").iterdir()} == {name}
    assert problems(folder) == []
    for shard in folder.glob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                assert member.isfile()
                assert "/" not in member.name and not member.name.startswith((".", "-"))


def test_a_card_is_text_and_its_front_matter_holds(distilled, tmp_path):
    formats.export(distilled, tmp_path / "out", ["huggingface"])
    text = (tmp_path / "out" / "huggingface" / "README.md").read_text()
    front, card = text.removeprefix("---\n").split("\n---\n", 1)
    values = dict(line.split(": ", 1) for line in front.splitlines())
    assert json.loads(values["license"]) == "other"
    names = json.loads(values["dataset_info"])["features"][1]["dtype"]["class_label"]["names"]
    assert tuple(names.values()) == NAMES
    assert "<script>" not in card
    assert "](javascript" not in card
    assert not any(line == "---" or line.startswith("license") for line in card.splitlines())


def first_image(distilled, **changes):
    """Changes the first entry of a manifest."""
    path = distilled / "manifest.json"
    value = json.loads(path.read_text())
    value["images"][0] |= changes
    path.write_text(json.dumps(value))


def test_a_link_out_of_the_set_is_not_followed(distilled, tmp_path):
    secret = tmp_path / "secret.png"
    record = read_manifest(distilled).records[0]
    (distilled / record.file).rename(secret)  # the very bytes that the manifest names
    (distilled / record.file).symlink_to(secret)
    with pytest.raises(InputError, match="a link that leads out"):
        manifest.verify(distilled)
    with pytest.raises(InputError, match="a link that leads out"):
        formats.export(DistilledSet.open(distilled), tmp_path / "out", ["image_folder"])
    assert not (tmp_path / "out" / "image_folder").exists()


@pytest.mark.parametrize(
    "file",
    [
        *("../x.png", "/etc/passwd", "train/../../x.png", "", ".", "a\0b", "..\\x.png", "C:\\x"),
        *("x/" * 3000, "train", "train/\ud800.png"),
    ],
)
def test_a_manifest_names_nothing_outside(distilled, tmp_path, file):
    (tmp_path / "x.png").write_bytes(b"")
    first_image(distilled, file=file, sha256=hashlib.sha256(b"").hexdigest())
    with pytest.raises(InputError) as caught:
        manifest.verify(distilled)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/../../x", "..\\x", "a\0b"])
def test_sums_name_nothing_outside(distilled, tmp_path, name, capsys):
    folder = formats.export(distilled, tmp_path / "out", ["npz"])["npz"]
    sums = folder / SUMS
    sums.write_text(f"{sums.read_text()}{'0' * 64}  {name}\n")
    assert command._verify(folder) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "leads out of the folder" in line


def test_verify_says_names_of_files_in_one_line_each(distilled, tmp_path, capsys):
    folder = formats.export(distilled, tmp_path / "out", ["npz"])["npz"]
    (folder / "all as it was written\n\x1b[2J").write_bytes(b"")
    assert command._verify(folder) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert r"written\n\x1b[2J: not in SHA256SUMS" in line
