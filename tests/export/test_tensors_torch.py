"""images_best.pt and labels_best.pt, as the field's loaders take them."""

import numpy as np
import pytest
from digits_set import MEAN, STD, write_digits
from file_limits import files_of_at_most

from delt_jax.errors import InputError, Interrupted
from delt_jax.export import formats
from delt_jax.export.distilled_set import DistilledSet
from delt_jax.runtime import faults

torch = pytest.importorskip("torch")


def export(tmp_path, **options):
    folder = formats.export(tmp_path / "distilled", tmp_path / "out", ["tensors"], options)
    return [
        torch.load(folder["tensors"] / f"{name}_best.pt", weights_only=True)
        for name in ("images", "labels")
    ]


def test_normalised_images_by_class_and_their_labels(tmp_path):
    images, labels = write_digits(tmp_path / "distilled")
    found_images, found_labels = export(tmp_path)
    assert found_images.dtype == torch.float32 and found_images.is_contiguous()
    assert found_images.shape == (24, 3, 16, 16)
    assert found_labels.dtype == torch.int64
    np.testing.assert_array_equal(found_labels, labels)
    # Back to the bytes, exactly.
    mean, std = (np.float32(values).reshape(3, 1, 1) for values in (MEAN, STD))
    pixels = np.rint((found_images.numpy() * std + mean) * 255)
    np.testing.assert_array_equal(pixels, images.transpose(0, 3, 1, 2))


def test_a_disk_without_room_is_told_as_such(tmp_path):
    write_digits(tmp_path / "distilled")
    with pytest.raises(Exception) as caught, files_of_at_most(30_000):
        export(tmp_path)
    fault = faults.explained(caught.value)
    assert isinstance(fault, Interrupted)
    assert "tensors" in str(fault) and "File too large" in str(fault)
    assert list((tmp_path / "out").iterdir()) == []


def test_as_torchvision_normalises_to_rounding(tmp_path, torchvision):
    images, _ = write_digits(tmp_path / "distilled")
    found, _ = export(tmp_path, statistics="imagenet")
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-7)


def test_soft_labels_are_logits(tmp_path, monkeypatch):
    write_digits(tmp_path / "distilled")
    logits = np.random.default_rng(0).standard_normal((24, 3)).astype(np.float32)
    monkeypatch.setattr(DistilledSet, "logits", lambda self: logits)
    _, labels = export(tmp_path, labels="soft")
    assert labels.dtype == torch.float32
    np.testing.assert_array_equal(labels, logits)


def test_without_torch(tmp_path, monkeypatch):
    write_digits(tmp_path / "distilled")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tensors: needs torch: pip install 'delt_jax\[torch\]'"):
        export(tmp_path)
