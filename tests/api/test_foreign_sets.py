"""Distilled sets that other programs wrote."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

import delt_jax
from delt_jax.export.manifest import verify

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
LABELS = np.array([1, 0, 2, 1, 0, 2])
ORDER = [1, 4, 0, 3, 2, 5]  # by class
MEAN, STD = np.float32([0.4914, 0.4822, 0.4465]), np.float32([0.2023, 0.1994, 0.2010])


def check(loaded, class_names=("0", "1", "2")):
    np.testing.assert_array_equal(loaded.images, PIXELS[ORDER])
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.class_names == class_names
    assert loaded.header == {"method": "unknown", "ipc": 2}


def write_folder(root, ending="png", **options):
    for index, label in enumerate(LABELS):
        folder = root / f"new{label:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"class{label:03d}_id{index:03d}.{ending}"
        Image.fromarray(PIXELS[index]).save(file, **options)
    return root


@pytest.mark.parametrize("below", ["", "train"])
@pytest.mark.parametrize("ending", ["png", "PNG", "bmp"])
def test_an_image_folder_without_a_manifest(tmp_path, below, ending):
    write_folder(tmp_path / "set" / below, ending)
    (tmp_path / "set" / below / "new000" / "Thumbs.db").write_bytes(b"?")
    loaded = delt_jax.load_distilled(tmp_path / "set")
    check(loaded)  # numbers say no names
    exported = loaded.save(tmp_path / "out")["image_folder"]
    check_again = delt_jax.load_distilled(exported)
    np.testing.assert_array_equal(check_again.images, PIXELS[ORDER])
    assert len(verify(exported).records) == 6


def test_folders_with_names_keep_them(tmp_path):
    for name in ("0", "1", "10"):  # in the order of texts, so that "10" is the third
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    assert delt_jax.load_distilled(tmp_path).class_names == ("0", "1", "10")
    (tmp_path / "10").rename(tmp_path / "cat")
    assert delt_jax.load_distilled(tmp_path).class_names == ("0", "1", "cat")


def test_jpeg_files_are_copied_as_they_are(tmp_path):
    write_folder(tmp_path, "JPEG", quality=75)
    loaded = delt_jax.load_distilled(tmp_path)
    first = next(loaded.folder.glob("train/*/class000_id000.jpg"))
    assert first.read_bytes() == (tmp_path / "new000" / "class000_id001.JPEG").read_bytes()


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": PIXELS, "labels": LABELS},
        {"x": PIXELS.astype(np.float32) / 255, "y": LABELS[:, None].astype(np.uint8)},
        {"x_train": PIXELS.transpose(0, 3, 1, 2).astype(np.float64) / 255, "y_train": LABELS},
        {"data": PIXELS.astype(np.float32), "targets": np.eye(3, dtype=np.float32)[LABELS]},
    ],
)
def test_an_archive_of_pixels(tmp_path, arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    check(delt_jax.load_distilled(tmp_path / "set.npz"))


def test_our_own_archive_brings_its_class_names(tmp_path):
    names = np.array(["cat", "dog", "owl"])
    np.savez(tmp_path / "set.npz", x_train=PIXELS, y_train=LABELS, class_names=names)
    check(delt_jax.load_distilled(tmp_path / "set.npz"), ("cat", "dog", "owl"))


def test_normalised_pixels_need_their_statistics(tmp_path):
    normalised = ((PIXELS / np.float32(255) - MEAN) / STD).transpose(0, 3, 1, 2)
    path = tmp_path / "set.npz"
    np.savez(path, images=normalised, labels=LABELS)
    with pytest.raises(
        delt_jax.InputError, match=r"values from -2\.4.* need statistics='mean/std'"
    ):
        delt_jax.load_distilled(path)
    for choice in ("cifar10", (MEAN, STD), "0.4914,0.4822,0.4465/0.2023,0.1994,0.2010"):
        check(delt_jax.load_distilled(path, statistics=choice))
    for choice in ("0.5/0.9", "imagenet"):
        with pytest.raises(delt_jax.InputError, match="whitened images are no pixels"):
            delt_jax.load_distilled(path, statistics=choice)
    for choice in ("dataset", "cifar11"):
        with pytest.raises(delt_jax.InputError, match="expected a data set of the table, imagenet"):
            delt_jax.load_distilled(path, statistics=choice)


def test_a_published_whitened_set_is_not_taken_for_pixels(shared_data):
    path = shared_data / "foreign" / "rcig_cifar10_ipc1.npz"
    if not path.is_file():
        pytest.skip("not there")
    for choice in (None, "cifar10", "imagenet"):
        with pytest.raises(delt_jax.InputError, match=r"whitened .* no pixels") as caught:
            delt_jax.load_distilled(path, statistics=choice)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS}, r"no labels; expected one array of the classes of 6 .* evaluate\("),
        ({"images": PIXELS, "labels": LABELS[:5]}, "no labels; expected"),
        (
            {"images": PIXELS, "labels": LABELS, "ids": LABELS},
            r"labels \(6,\) int64, ids .*expected",
        ),
        ({"images": PIXELS, "labels": np.ones((6, 3))}, "learned labels are not read"),
        ({"images": PIXELS, "labels": LABELS - 1}, "expected a label from 0"),
        (
            {"a": PIXELS, "b": PIXELS, "y": LABELS},
            "2 arrays of images in a .*load_data opens a data",
        ),
        ({"labels": LABELS}, "0 arrays of images in labels"),
        ({"images": PIXELS * np.nan, "labels": LABELS}, "expected finite pixels"),
        (
            {"images": PIXELS[..., :2], "labels": LABELS},
            "expected finite pixels of 1 or 3 channels",
        ),
        ({"images": PIXELS.astype(np.float32) + 0.5, "labels": LABELS}, "values from 0.5 to 255.5"),
        ({"images": np.array([{}], object)}, "cannot be read"),
    ],
)
def test_what_is_no_set_is_said_in_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(delt_jax.InputError, match=message) as caught:
        delt_jax.load_distilled(tmp_path / "set.npz")
    assert "\n" not in str(caught.value)


def test_what_is_not_read_is_said(tmp_path, caplog):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS, log_temp=np.float32(0.3))
    check(delt_jax.load_distilled(tmp_path / "set.npz"))
    assert caplog.messages[-1].endswith("set.npz: not read beside images and labels: log_temp")


def test_torch_files(tmp_path):
    torch = pytest.importorskip("torch")
    images = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / np.float32(255))
    labels = torch.from_numpy(LABELS)
    torch.save(images, tmp_path / "images_best.pt")  # as trajectory matching
    torch.save(labels, tmp_path / "labels_best.pt")
    torch.save({"data": [[images, labels]], "accs": {"conv": [0.5]}}, tmp_path / "res.pt")  # as DC
    torch.save([images.half().float(), labels], tmp_path / "pair.PT")
    for name in ("images_best.pt", "res.pt", "pair.PT"):
        check(delt_jax.load_distilled(tmp_path / name))
    (tmp_path / "labels_best.pt").unlink()
    with pytest.raises(delt_jax.InputError, match=r"images_best\.pt: no labels; .* evaluate\("):
        delt_jax.load_distilled(tmp_path / "images_best.pt")
    torch.save(torch.randn(6, 3, 8, 8), tmp_path / "images_best.pt")
    with pytest.raises(delt_jax.InputError, match=r"values from -.* whitened ones are no pixels"):
        delt_jax.load_distilled(tmp_path / "images_best.pt")


class Runs:
    def __reduce__(self):
        return os.system, ("touch was-here",)


def test_a_torch_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"images": Runs()}, tmp_path / "set.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Runs(), 2))
    for name in ("set.pt", "plain.pt"):
        with pytest.raises(delt_jax.InputError, match="refused, it is damaged or holds more than"):
            delt_jax.load_distilled(tmp_path / name)
    assert not (tmp_path / "was-here").exists()


def test_paths_that_hold_no_set(tmp_path):
    with pytest.raises(delt_jax.InputError, match="nowhere: no such file or folder"):
        delt_jax.load_distilled(tmp_path / "nowhere")
    with pytest.raises(delt_jax.InputError, match="no class folder in it"):
        delt_jax.load_distilled(tmp_path)
    (tmp_path / "set.mat").write_bytes(b"?")
    with pytest.raises(
        delt_jax.InputError, match=r"expected a folder of images, or a file of \.npz"
    ):
        delt_jax.load_distilled(tmp_path / "set.mat")
    run = tmp_path / "run"
    write_folder(run / "distilled" / "train")
    (run / "config.json").write_text("{}")
    for path in (run, run / "distilled"):  # the run has not finished them
        with pytest.raises(
            delt_jax.InputError, match="no distilled images yet; expected stage synth"
        ):
            delt_jax.load_distilled(path)
    write_folder(tmp_path / "odd")
    Image.new("RGB", (9, 8)).save(tmp_path / "odd" / "new002" / "z.png")
    with pytest.raises(
        delt_jax.InputError, match=r"odd/new002/z\.png: 9 x 8 pixels; expected 8 x 8"
    ):
        delt_jax.load_distilled(tmp_path / "odd")
