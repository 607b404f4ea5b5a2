"""Pickled torch checkpoints: what is read out of them, and what is refused."""

import argparse
import pathlib
import zipfile

import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights

torch = pytest.importorskip("torch")

STATE = {
    "conv1.weight": torch.arange(6.0).reshape(2, 3),
    "bn1.num_batches_tracked": torch.tensor(5),
}
WRAPPED = {f"module.{key}": value for key, value in STATE.items()}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        WRAPPED,
        {"state_dict": WRAPPED, "best_prec1": 91.7},
        {"model": STATE, "epoch": 3, "args": {"lr": 0.1}},
        {"model": {"state_dict": STATE}},
        {"model": {f"_orig_mod.{key}": value for key, value in WRAPPED.items()}},
        {"model": STATE, "args": argparse.Namespace(lr=0.1)},
        {"net": STATE, "epoch": 3},
        {**STATE, "epoch": 3},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {0: STATE}}},
        {"state_dict_ema": STATE, "metric": np.float64(91.7), "history": np.arange(3)},
        {"model": STATE, "rng": [np.int64(3), np.bool_(True), np.str_("x"), np.zeros((2, 2))]},
        {"model": STATE, "callbacks": {"best": {"score": torch.tensor(0.9)}}},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_finds_the_weights(content, legacy, tmp_path):
    path = tmp_path / "weights.th"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    state = torch_weights.read_state_dict(path)
    assert state.keys() == STATE.keys()
    np.testing.assert_array_equal(state["conv1.weight"], STATE["conv1.weight"].numpy())
    assert state["bn1.num_batches_tracked"] == 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, tmp_path):
    torch.save({"w": torch.tensor([1.5], dtype=dtype)}, tmp_path / "weights.pt")
    state = torch_weights.read_state_dict(tmp_path / "weights.pt")
    assert state["w"].dtype == np.float32
    assert state["w"] == 1.5


class RunsCode:
    def __init__(self, target: pathlib.Path):
        self.target = target

    def __reduce__(self):
        return pathlib.Path.touch, (self.target,)


def refuse(path, message):
    with pytest.raises(InputError, match=message) as caught:
        torch_weights.read_state_dict(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_a_pickle_that_would_run_code(tmp_path):
    path, target = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({**STATE, "extra": RunsCode(target)}, path)
    refuse(path, r"refused, it holds getattr, which could run code; save its state_dict alone")
    assert not target.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0, 100, -20])
def test_refuses_a_truncated_file(legacy, kept, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:kept])
    refuse(path, "damaged" if kept else "an empty file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor, expected a state_dict"),
        ({}, "holds an empty dict, expected a state_dict"),
        (
            {"best": 91.7, "epoch": 3},
            "no tensors under best, epoch; expected a state_dict, bare or",
        ),
    ],
)
def test_refuses_what_holds_no_weights(content, message, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    refuse(tmp_path / "weights.pth", message)


def test_a_refused_network_is_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "weights.pth")
    refuse(tmp_path / "weights.pth", "it holds torch.nn.modules.linear.Linear, which could run")


def test_a_sparse_tensor_is_named(tmp_path):
    torch.save({"fc.weight": torch.eye(3).to_sparse()}, tmp_path / "weights.pth")
    refuse(tmp_path / "weights.pth", "fc.weight: a tensor of kind torch.sparse_coo")


def test_a_mapping_within_itself_ends(tmp_path):
    content = {"model": dict(STATE)}
    content["model"]["self"] = content
    torch.save(content, tmp_path / "weights.pth")
    assert torch_weights.read_state_dict(tmp_path / "weights.pth").keys() == STATE.keys()


@pytest.mark.parametrize("name", ["numpy.load", "numpy.core.multiarray.fromfile", "os.system"])
def test_no_other_names_of_numpy_are_allowed(name, tmp_path):
    module, _, function = name.rpartition(".")
    called = f"c{module}\n{function}\n(X\x01\0\0\0xtR.".encode()
    path = tmp_path / "weights.pth"
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as old:
        names = {entry: old.read(entry) for entry in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for entry, content in names.items():
            is_pickle = entry.endswith("/data.pkl")
            new.writestr(entry, b"\x80\x02" + called if is_pickle else content)
    refuse(path, "could run code")


def test_th_and_safetensors_agree(shared_data):
    states = [
        torch_weights.read_state_dict(shared_data / f"cifar10_resnet20-12fca82f.{suffix}")
        for suffix in ("th", "safetensors")
    ]
    module = registry.create("cifar_resnet20", 10, 32)
    first, second = (
        torch_weights.to_state_dict(torch_weights.from_state_dict(module, 32, state))
        for state in states
    )
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], err_msg=key)
