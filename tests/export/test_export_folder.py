"""Folders of exports: whole or not there, replaced, refused, verified."""

import hashlib
import pathlib
import shutil
import signal
import subprocess

import pytest
from digits_set import write_digits

from delt_jax.errors import InputError, Interrupted
from delt_jax.export import formats
from delt_jax.export.export_folder import SUMS, new_folder, problems
from delt_jax.runtime import interruption


@pytest.fixture
def distilled(tmp_path):
    write_digits(tmp_path / "distilled")
    return tmp_path / "distilled"


@pytest.fixture
def folder(distilled, tmp_path):
    return formats.export(distilled, tmp_path / "out", ["image_folder"])["image_folder"]


def export(distilled, tmp_path):
    return formats.export(distilled, tmp_path / "out", ["image_folder"], {"naming": "reference"})


def test_nothing_is_wrong_with_a_new_export(folder):
    assert problems(folder) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_the_sums_are_those_of_sha256sum(folder):
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 24 + 2  # images, card, manifest


def test_every_file_that_is_wrong_has_a_line(folder):
    image = folder / "train" / "000_zero" / "class000_id000.png"
    image.write_bytes(b"")
    (folder / "README.md").unlink()
    (folder / "train" / "notes.txt").write_text("mine")
    (folder / "link").symlink_to(folder)
    assert [line.removeprefix(f"{folder}/").split(" ")[0:3] for line in problems(folder)] == [
        ["README.md:", "not", "there;"],
        ["train/000_zero/class000_id000.png:", "changed,", "SHA-256"],
        ["link:", "not", "in"],
        ["train/notes.txt:", "not", "in"],
    ]


def test_a_manifest_that_was_exchanged_with_its_sum(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))
    lines = (folder / SUMS).read_text().splitlines()
    new = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{new}  manifest.json" if line.endswith("manifest.json") else line for line in lines]
    (folder / SUMS).write_text("\n".join(lines) + "\n")
    found = problems(folder)
    assert len(found) == 24 and "manifest.json and SHA256SUMS differ" in found[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not in SHA256SUMS"),
        ("0" * 64 + "  ../distilled/manifest.json\n", "line 1 leads out of the folder"),
        ("0" * 64 + "  /etc/passwd\n", "line 1 leads out of the folder"),
        ("hello\n", "line 1 is 'hello'; expected SHA-256 and a name"),
    ],
)
def test_sums_that_are_none(folder, text, message):
    (folder / SUMS).write_text(text)
    assert message in problems(folder)[0]


def test_an_earlier_export_is_replaced(distilled, folder, tmp_path):
    export(distilled, tmp_path)
    assert sorted(path.name for path in (folder / "train").iterdir()) == [
        "new000",
        "new001",
        "new002",
    ]
    assert problems(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == ["image_folder"]


def test_what_another_put_there_is_kept(distilled, folder, tmp_path):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt: no part of the export there"):
        export(distilled, tmp_path)
    assert (folder / "notes.txt").read_text() == "mine"


def test_another_folder_is_refused(distilled, tmp_path):
    there = tmp_path / "out" / "image_folder"
    there.mkdir(parents=True)
    (there / "final.tex").write_text("dear")
    with pytest.raises(InputError, match="holds something else"):
        export(distilled, tmp_path)
    assert (there / "final.tex").read_text() == "dear"
    shutil.rmtree(there)
    shutil.copytree(distilled, there)  # a distilled set is no export of one
    with pytest.raises(InputError, match="holds something else"):
        export(distilled, tmp_path)
    shutil.rmtree(there)
    there.symlink_to(distilled)
    with pytest.raises(InputError, match="holds something else"):
        export(distilled, tmp_path)


def test_the_distilled_set_itself_is_no_destination(distilled):
    for place in (distilled, distilled / "train"):
        with pytest.raises(InputError, match="lies in the distilled set"):
            formats.export(distilled, place, ["npz"])


def test_what_fails_leaves_the_earlier_export(folder):
    def fail(partial):
        (partial / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError), new_folder(folder) as partial:
        fail(partial)
    assert problems(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == ["image_folder"]


def test_a_rename_that_fails_puts_the_earlier_export_back(distilled, folder, tmp_path, monkeypatch):
    rename = pathlib.Path.rename

    def fail(path, target):
        if path.name.endswith(".partial"):
            raise OSError("no space")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        export(distilled, tmp_path)
    assert problems(folder) == []
    assert (folder / "train" / "000_zero").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["image_folder"]


def test_what_was_killed_is_swept_away(distilled, tmp_path):
    for left in (".image_folder.partial", ".image_folder.replaced"):
        (tmp_path / "out" / left / "train").mkdir(parents=True)
    export(distilled, tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["image_folder"]


def test_what_was_killed_between_two_renames_is_there_again(folder, tmp_path):
    folder.rename(folder.with_name(".image_folder.replaced"))
    with pytest.raises(ZeroDivisionError), new_folder(folder):
        raise ZeroDivisionError
    assert problems(folder) == []
    assert [path.name for path in folder.parent.iterdir()] == ["image_folder"]


def test_a_signal_between_two_renames_waits(distilled, folder, tmp_path, monkeypatch):
    rename = pathlib.Path.rename

    def rename_and_signal(self, target):
        rename(self, target)
        if not interruption.is_asked():
            interruption._on_signal(signal.SIGTERM, None)

    monkeypatch.setattr(interruption, "_request", interruption._Request())
    monkeypatch.setattr(pathlib.Path, "rename", rename_and_signal)
    with pytest.raises(Interrupted):
        export(distilled, tmp_path)
    assert problems(folder) == []
    assert (folder / "train" / "new000").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["image_folder"]


def test_a_place_that_cannot_be_written(distilled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/npz: cannot write there \(Not a directory\)"):
        formats.export(distilled, tmp_path / "file", ["npz"])
