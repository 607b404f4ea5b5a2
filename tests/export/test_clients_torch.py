"""What PyTorch users load from each format: the distilled images, and a ConvNet-3 learns them."""

import contextlib
import importlib
import re

import numpy as np
import pytest
from digits_set import FORMATS, write_digits

from delt_jax.export import formats
from delt_jax.export.export_folder import problems

torch = pytest.importorskip("torch")
# The package webdataset leaves it to the garbage collector to close its shards.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def image_folder(folder, torchvision):
    to_tensor = torchvision.transforms.ToTensor()
    train = torchvision.datasets.ImageFolder(folder / "train", to_tensor)
    return zip(*train, strict=True)


def tensors(folder, torchvision):
    images, labels = (
        torch.load(folder / f"{name}_best.pt", weights_only=True) for name in ("images", "labels")
    )
    return images, labels


def safetensors(folder, torchvision):
    data = importlib.import_module("safetensors.torch").load_file(folder / "distilled.safetensors")
    return data["images"] / 255, data["labels"]


def npz(folder, torchvision):
    with np.load(folder / "distilled.npz") as data:
        images, labels = data["x_train"], data["y_train"]
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255, torch.from_numpy(labels)


def webdataset(folder, torchvision):
    package = pytest.importorskip("webdataset")
    shards = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    samples = package.WebDataset(shards, shardshuffle=False).decode("torchrgb")
    rows = sorted(samples.to_tuple("json", "png;jpg", "cls"), key=lambda row: row[0]["number"])
    return [row[1] for row in rows], [row[2] for row in rows]


def huggingface(folder, torchvision):
    package = pytest.importorskip("datasets")
    cache = str(folder.parent / "cache")
    train = package.load_dataset(str(folder), split="train", cache_dir=cache).with_format("torch")
    return [row["image"] / 255 for row in train], train["label"][:]


def array_record(folder, torchvision):
    tfds = pytest.importorskip("tensorflow_datasets")
    examples = list(tfds.builder_from_directory(str(folder)).as_data_source("train"))
    to_tensor = torchvision.transforms.ToTensor()
    return [to_tensor(row["image"].copy()) for row in examples], [row["label"] for row in examples]


CLIENTS = (image_folder, tensors, safetensors, npz, webdataset, huggingface, array_record)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_a_student_learns_what_was_distilled(client, tmp_path, torchvision):
    images, labels = write_digits(tmp_path / "distilled")
    name = client.__name__
    # Tensors in [0, 1], as the others are loaded here.
    options = {"statistics": "0/1"}
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", [name], options)[name]
    loaded, classes = client(folder, torchvision)
    loaded = torch.stack(list(loaded)) if not torch.is_tensor(loaded) else loaded
    classes = torch.as_tensor(classes)
    expected = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    assert torch.equal(loaded, expected)
    np.testing.assert_array_equal(classes, labels)
    before, after = train_student(loaded, classes)
    assert after < before / 3


def train_student(images, labels, steps=15):
    """Trains a ConvNet-3 on all images at once; returns the loss of the first and last step."""
    from torch_networks import TorchConvNet

    torch.manual_seed(0)
    student = TorchConvNet(3, images.shape[-1])
    optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(student(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


@pytest.mark.parametrize("name", FORMATS)
def test_the_lines_of_the_card_load_it(name, tmp_path, torchvision, monkeypatch):
    write_digits(tmp_path / "distilled")
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", [name])[name]
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for module in re.findall(r"^(?:import|from) (\w+)", blocks[0], re.MULTILINE):
        pytest.importorskip(module)
    with contextlib.chdir(folder):
        found: dict = {}
        exec(blocks[0], found)
    if "images" in found:
        assert len(found["images"]) in (24, 32)  # all, or a batch
    assert problems(folder) == []  # and leave nothing in it
