"""Distilled images and stored labels in PyTorch, beside JAX's."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from labelled_run import EPOCHS, IMAGES, files_of, make_run, source_of
from tiny_run import CLASSES, MEAN, STD

from delt_jax.core.augment.stored_views import show
from delt_jax.export import compact_labels

torch = pytest.importorskip("torch")

from delt_jax.torch import DistilledSet  # noqa: E402
from delt_jax.torch import dataset as dataset_module  # noqa: E402

CODINGS = ({}, {"dtype": "int8"}, {"top_k": 2}, {"top_k": 1, "dtype": "int8", "epochs": 2})


@pytest.fixture(scope="module", params=CODINGS, ids=str)
def run(request, tmp_path_factory):
    """A run and its compact export, two epochs a file."""
    folder = tmp_path_factory.mktemp("torch")
    run, images = make_run(folder, **request.param)
    exported = folder / "export"
    compact_labels.write(source_of(run), exported, {"shard_megabytes": 0.00025})
    return run, images, exported


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    run, images = make_run(folder)
    compact_labels.write(source_of(run), folder / "export", {})
    return run, images, folder / "export"


def folders(run, layout):
    workdir, _, exported = run
    if layout == "epochs":
        return workdir.distilled, workdir.labels
    return exported, exported / "labels"


@pytest.mark.parametrize("layout", ["epochs", "compact"])
def test_shows_and_says_what_jax_does(run, layout):
    workdir, images, _ = run
    files = files_of(workdir)
    data = DistilledSet(*folders(run, layout))
    assert (len(data), data.epochs, data.temperature) == (IMAGES, files.epochs, 20.0)
    for epoch in range(EPOCHS):  # of which the last may be the first one again
        _, labels = files.read(epoch % files.epochs)
        pixels = np.asarray(show(images, labels.views, np.arange(IMAGES)))
        expected = (pixels - np.float32(MEAN)) / np.float32(STD)
        data.set_epoch(epoch)
        for index in (5, *range(IMAGES)):
            shown, logits = data[index]
            assert (shown.dtype, logits.dtype) == (torch.float32, torch.float32)
            np.testing.assert_allclose(shown.permute(1, 2, 0), expected[index], atol=2e-6)
            np.testing.assert_array_equal(logits, labels.logits[index].astype(np.float32))


def test_travels_to_workers_that_are_spawned(plain):
    import pickle

    data = DistilledSet(*folders(plain, "epochs"))
    data.set_epoch(1)
    before = data[3]
    labels = pickle.loads(pickle.dumps(data._labels))
    view, partner, logits = labels.at(1, 3)
    assert (logits == before[1].numpy()).all() and len(view.crop) == len(partner) == 4


def test_images_alone_come_with_their_classes(plain):
    workdir, images, _ = plain
    data = DistilledSet(workdir.distilled, mean=(0, 0, 0), std=(1, 1, 1))
    assert data.class_names == CLASSES and data.epochs == 0
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(data.images.permute(0, 2, 3, 1), images)
    shown, target = data[4]
    np.testing.assert_allclose(shown.permute(1, 2, 0), images[4] / 255, atol=1e-7)
    assert int(target) == 1
    halved = DistilledSet(
        workdir.distilled, mean=(0, 0, 0), std=(1, 1, 1), transform=lambda x: x / 2
    )
    assert torch.equal(halved[4][0], shown / 2)


def test_an_image_folder_needs_no_manifest(plain, tmp_path):
    workdir, images, _ = plain
    shutil.copytree(workdir.distilled / "train", tmp_path / "train")
    for folder in (tmp_path, tmp_path / "train"):
        data = DistilledSet(folder)
        np.testing.assert_array_equal(data.images.permute(0, 2, 3, 1), images)
        np.testing.assert_allclose(data.mean.flatten(), [0.485, 0.456, 0.406])
    assert DistilledSet(tmp_path, workdir.labels).epochs == EPOCHS


def test_reads_the_files_that_jax_reads(tmp_path):
    from PIL import Image

    from delt_jax.data.image_folder import open_two_folders

    endings = ("png", "PNG", "jfif", "JPE", "webp", "bmp", "gif", "Tiff", "tga")
    formats = {"jfif": "JPEG", "JPE": "JPEG"}
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in ("a-b", "a", "Z"):
        for index, ending in enumerate(endings):
            folder = tmp_path / name / ("deep" if index % 2 else "deep-er")
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(random.integers(0, 256, (6, 6, 3)).astype(np.uint8))
            options = {"exif": exif} if ending in ("jfif", "webp", "png") else {}
            image.save(folder / f"{index}.{ending}", formats.get(ending), **options)
        grey = random.integers(0, 2**16, (6, 6)).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / name / "grey.png")
        for stray in ("._0.png", "Thumbs.db", "desktop.ini", "@eaDir/0.png", "__MACOSX/0.png"):
            (tmp_path / name / stray).parent.mkdir(exist_ok=True)
            (tmp_path / name / stray).write_bytes(b"?")
    for stray in ("@eaDir", "__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / stray).mkdir()
    data = DistilledSet(tmp_path)
    source = open_two_folders(tmp_path, tmp_path, "train")
    assert (len(data), data.class_names) == (30, source.class_names)
    assert data.targets.tolist() == source.labels.tolist()
    images = data.images.permute(0, 2, 3, 1).numpy()
    for index in range(30):
        np.testing.assert_array_equal(images[index], source[index], source.names[index])


def test_the_file_that_is_copied_knows_the_names_of_the_package():
    from delt_jax.data import image_names

    assert set(dataset_module.SUFFIXES) == image_names.IMAGE_SUFFIXES
    assert set(dataset_module.STRAYS) == image_names._STRAYS
    for name in (".x", "@eaDir", "a.png:Zone.Identifier", "a.JPE", "a.txt", "Thumbs.db", "a"):
        assert dataset_module.is_stray(name) == image_names.is_stray(name)
        assert dataset_module.is_image_name(name) == image_names.is_image_name(name)


def test_a_class_without_an_image_is_named(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("none yet")
    with pytest.raises(ValueError, match="cat: no image in it; expected at least one"):
        DistilledSet(tmp_path)


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "orbax", "delt_jax"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import torch
from labelled import DistilledSet
data = DistilledSet(*sys.argv[1:])
loader = torch.utils.data.DataLoader(data, 2, num_workers=2, persistent_workers=True)
for epoch in (0, 2):  # of which workers that live on must hear
    data.set_epoch(epoch)
    shown, logits = map(torch.cat, zip(*loader))
    for i in range(len(data)):
        assert torch.equal(shown[i], data[i][0]) and torch.equal(logits[i], data[i][1])
print(len(torch.unique(logits, dim=0)))
"""


@pytest.mark.parametrize("layout", ["epochs", "compact"])
def test_the_file_alone_needs_neither_jax_nor_this_package(plain, tmp_path, layout):
    """With workers: forking them in a process of JAX's threads is not allowed."""
    shutil.copy(dataset_module.__file__, tmp_path / "labelled.py")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, folders(plain, layout))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == (f"{IMAGES}\n", 0), done.stderr


def test_importing_the_package_does_not_import_jax():
    root = pathlib.Path(dataset_module.__file__).parents[2]
    program = (
        "import sys; sys.modules['jax'] = None; import delt_jax.torch, delt_jax.torch.__main__"
    )
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


@pytest.fixture
def copied(plain, tmp_path):
    """A run and its export that may be damaged."""
    workdir, _, exported = plain
    shutil.copytree(workdir.path, tmp_path / "run")
    shutil.copytree(exported, tmp_path / "export")
    return tmp_path


def spoil_image(folder):
    next((folder / "run/distilled/train").rglob("*.png")).write_bytes(b"x")


def other_image(folder):
    path = folder / "run/distilled/manifest.json"
    record = json.loads(path.read_text())
    images = record["images"]
    for key in ("file", "sha256"):
        images[0][key], images[1][key] = images[1][key], images[0][key]
    path.write_text(json.dumps(record))


def other_epoch(folder):
    (folder / "run/labels/epoch_0001.safetensors").rename(
        folder / "run/labels/epoch_0000.safetensors"
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "layout", "words"),
    [
        (spoil_image, "run", r"\.png: changed; expected the file that the manifest names"),
        (other_image, "run", "labels of other images, or in another order"),
        (other_epoch, "run", r"epoch_0000\.safetensors: not of these labels"),
        (
            lambda folder: cut(folder / "run/labels/epoch_0000.safetensors"),
            "run",
            r"epoch_0000\.safetensors: cannot be read",
        ),
        (
            lambda folder: (folder / "run/labels/epoch_0000.safetensors").unlink(),
            "run",
            r"epoch_0000\.safetensors: cannot be read",
        ),
        (
            lambda folder: cut(folder / "export/labels/labels_00000.safetensors"),
            "export",
            r"labels_00000\.safetensors: cannot be read",
        ),
        (
            lambda folder: (folder / "export/labels/labels.json").unlink(),
            "export",
            r"labels\.json: No such file",
        ),
        (
            lambda folder: (folder / "export/labels/labels.json").write_text("{"),
            "export",
            r"labels\.json: not valid JSON",
        ),
        (
            lambda folder: (folder / "export/labels/labels.json").write_text('{"mode": "online"}'),
            "export",
            "no labels are stored",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(copied, damage, layout, words):
    damage(copied)
    where = (copied / "run/distilled", copied / "run/labels")
    if layout == "export":
        where = (copied / "export", copied / "export/labels")
    with pytest.raises(ValueError, match=words) as caught:
        DistilledSet(*where)[0]
    assert "\n" not in str(caught.value)


def test_a_transform_of_replayed_views_is_refused(plain):
    with pytest.raises(ValueError, match="transform with labels"):
        DistilledSet(*folders(plain, "epochs"), transform=torch.abs)


@pytest.mark.parametrize("file", ["../x.png", "/etc/passwd", "a\0b", 5, None])
def test_a_manifest_leads_to_no_other_file(plain, tmp_path, file):
    workdir, _, _ = plain
    folder = shutil.copytree(workdir.distilled, tmp_path / "set")
    (tmp_path / "x.png").write_bytes(b"")
    value = json.loads((folder / "manifest.json").read_text())
    value["images"][0]["file"] = file
    (folder / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"manifest\.json: not the manifest of a distilled set"):
        DistilledSet(folder)


def test_a_link_out_of_the_set_is_not_followed(plain, tmp_path):
    workdir, _, _ = plain
    folder = shutil.copytree(workdir.distilled, tmp_path / "set")
    value = json.loads((folder / "manifest.json").read_text())
    image = folder / value["images"][0]["file"]
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ValueError, match="lies outside of"):
        DistilledSet(folder)
