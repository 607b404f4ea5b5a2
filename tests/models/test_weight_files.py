"""Files and folders of weights: read by what they hold, or refused with what they are."""

import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from delt_jax.errors import InputError
from delt_jax.models import torch_weights, weight_files

STATE = {"conv1.weight": np.ones((2, 3), np.float32), "fc.bias": np.zeros(2, np.float32)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 46830571\n"


@pytest.mark.parametrize("suffix", [".pth", ".PTH", ".safetensors", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>\n<html><head>", "a web page (of an error, a login or a preview) in"),
        (b"\xef\xbb\xbf\n  <html lang=en>", "a web page"),
        (b"<?xml version='1.0'?><Error>", "a web page"),
        (POINTER, "a Git LFS pointer in place of the file"),
        (b'{"error": "Repository not found"}', 'a text that begins \'{"error": "Repos'),
        (b"404: Not Found", "a text that begins '404: Not Found'"),
        ("Nicht gefunden: größer".encode(), "a text that begins 'Nicht gefunden: größer'"),
        (b"\x1f\x8b\x08\x00\x00", "compressed by gzip; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them"),
        (b"", "an empty file"),
        (bytes(600), "a file that begins with zeros, as an interrupted copy leaves it"),
        (tarfile.TarInfo("w.pth").tobuf(), "a tar archive; unpack it"),
    ],
)
def test_what_a_file_is_instead_is_named(suffix, content, message, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        torch_weights.read_state_dict(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("; expected weights")


@pytest.mark.parametrize("name", ["w.safetensors", "W.SAFETENSORS", "w.pth", "W.Bin", "w.pth.tar"])
def test_safetensors_are_read_whatever_the_suffix_says(name, tmp_path):
    safetensors.numpy.save_file(STATE, tmp_path / name)
    state = torch_weights.read_state_dict(tmp_path / name)
    np.testing.assert_array_equal(state["conv1.weight"], STATE["conv1.weight"])


@pytest.mark.parametrize("name", ["w.PTH", "w.PTH.TAR", "W.safetensors", "w.t7", "w.pyth"])
def test_torch_files_are_read_whatever_the_suffix_says(name, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"net": {"fc.bias": torch.zeros(2)}}, tmp_path / name)
    assert torch_weights.read_state_dict(tmp_path / name).keys() == {"fc.bias"}


@pytest.mark.parametrize("name", ["w.zip.pth", "w.pt"])
def test_another_zip_archive_is_called_by_what_is_in_it(name, tmp_path):
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("best/w.pth", "")
    with pytest.raises(InputError, match=r"a zip archive of best/w\.pth, no file of torch's"):
        torch_weights.read_state_dict(tmp_path / name)


def test_another_pickle_protocol_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"fc.bias": torch.zeros(2)}, tmp_path / "w.pth", pickle_protocol=4)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"fc.bias": 1}, 4))
    for name in ("w.pth", "w.pkl"):
        with pytest.raises(InputError, match="is damaged or no pickle of protocol 2"):
            torch_weights.read_state_dict(tmp_path / name)


def test_types_of_numpy_beside_the_weights_do_no_harm(tmp_path):
    torch = pytest.importorskip("torch")
    kinds = [np.float32, np.float64, np.bool_, np.int64, np.str_, np.dtype("f4")]
    torch.save({"net": {"fc.bias": torch.zeros(2)}, "kinds": kinds}, tmp_path / "w.pth")
    assert torch_weights.read_state_dict(tmp_path / "w.pth").keys() == {"fc.bias"}


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int8, np.int16, np.uint16, np.uint64])
def test_numbers_of_any_kind_may_be_beside_the_weights_in_safetensors(kind, tmp_path):
    beside = np.array([0, 1], kind)
    safetensors.numpy.save_file(STATE | {"mask": beside}, tmp_path / "w.safetensors")
    state = torch_weights.read_state_dict(tmp_path / "w.safetensors")
    assert state["mask"].dtype == kind
    np.testing.assert_array_equal(state["mask"], beside)


@pytest.mark.parametrize("nested", [False, True])
def test_arrays_of_numpy_in_a_pickle_are_named(nested, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"net": STATE, "epoch": 3} if nested else STATE, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"no tensors under .*NumPy arrays in a pickle are not"):
        torch_weights.read_state_dict(tmp_path / "w.pth")


def test_an_empty_mapping_is_called_empty(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="holds an empty dict, expected a state_dict"):
        torch_weights.read_state_dict(tmp_path / "w.pth")


def fill(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["config.json", "model.safetensors", "README.md"], "model.safetensors"),
        (["config.json", "model.safetensors", "pytorch_model.bin"], "model.safetensors"),
        (["config.json", "pytorch_model.bin"], "pytorch_model.bin"),
        (
            [
                *("optimizer.bin", "scheduler.bin", "random_states_0.pkl", "sampler.bin"),
                *("scaler.pt", "model.safetensors", "custom_checkpoint_0.pkl"),
            ],
            "model.safetensors",
        ),
        (
            [
                *("optimizer.pt", "rng_state.pth", "training_args.bin", "trainer_state.json"),
                *("pytorch_model.bin", "scheduler.pt"),
            ],
            "pytorch_model.bin",
        ),
        (
            [
                *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
                "model.safetensors.index.json",
            ],
            "model.safetensors.index.json",
        ),
        (["epoch=3-step=10.ckpt", "hparams.yaml"], "epoch=3-step=10.ckpt"),
        (["epoch_100.PTH", "last_checkpoint", "vis_data.log"], "epoch_100.PTH"),
    ],
)
def test_the_one_file_of_a_folder_is_found(names, found, tmp_path):
    fill(tmp_path, *names)
    assert weight_files.in_folder(tmp_path) == tmp_path / found


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["last.ckpt", "best.ckpt"], "holds best.ckpt, last.ckpt; expected one file of weights"),
        (["notes.txt", "optimizer.bin"], "holds neither a card.json, as networks that were saved"),
        ([], "holds neither a card.json"),
    ],
)
def test_another_folder_is_refused(names, message, tmp_path):
    fill(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        weight_files.in_folder(tmp_path)


def test_shards_are_read_as_one(tmp_path):
    where = {}
    for number, (key, value) in enumerate(STATE.items()):
        name = f"model-{number}.safetensors"
        safetensors.numpy.save_file({key: value}, tmp_path / name)
        where[key] = name
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert torch_weights.read_state_dict(index).keys() == STATE.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no index of weights"),
        ('{"weight_map": ["a"]}', "no index of weights"),
        ('{"weight_map": {"a": "../w.safetensors"}}', "file '../w.safetensors', expected the name"),
        ('{"weight_map": {"a": "b.index.json"}}', "file 'b.index.json', expected the name"),
        ('{"weight_map": {"a": "b.safetensors"}}', r"b\.safetensors: no such file"),
        ('{"weight_map": {"a": {}}}', "no index of weights"),
    ],
)
def test_another_index_is_refused(text, message, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(InputError, match=message):
        torch_weights.read_state_dict(index)
