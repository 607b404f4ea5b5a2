"""EfficientNet-Lite0's weights under the keys of EfficientNet-PyTorch, which published them."""

import io
import re
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image
from recipes import draw_state

from delt_jax.data.pipeline import centre_crop
from delt_jax.errors import InputError
from delt_jax.models import registry, torch_weights
from delt_jax.models.efficientnet_lite import EfficientNetLite

ARCH = "tf_efficientnet_lite0"

# ImageNette's classes among the thousand of ImageNet-1K.
INDICES = {
    "n01440764": 0,
    "n02102040": 217,
    "n02979186": 482,
    "n03000684": 491,
    "n03028079": 497,
    "n03394916": 566,
    "n03417042": 569,
    "n03425413": 571,
    "n03445777": 574,
    "n03888257": 701,
}


def published_key(key: str) -> str:
    """The key that EfficientNet-PyTorch gives to one of ours, written out block by block."""
    blocks = "0.0 1.0 1.1 2.0 2.1 3.0 3.1 3.2 4.0 4.1 4.2 5.0 5.1 5.2 5.3 6.0".split()
    layers = "conv_pw _expand_conv bn1 _bn0 conv_dw _depthwise_conv bn2 _bn1 conv_pwl _project_conv"
    layers = dict(zip(*[iter(f"{layers} bn3 _bn2".split())] * 2, strict=True))
    if match := re.fullmatch(r"blocks\.(\d\.\d)\.(\w+)\.(\w+)", key):
        if match[1] == "0.0":  # no expansion
            layers = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv"}
            layers["bn2"] = "_bn2"
        return f"_blocks.{blocks.index(match[1])}.{layers[match[2]]}.{match[3]}"
    tops = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    top, _, leaf = key.partition(".")
    return f"{(tops | {'classifier': '_fc'})[top]}.{leaf}"


@pytest.fixture(scope="module")
def module():
    return registry.create(ARCH, 1000, 224)


@pytest.fixture(scope="module")
def state(module):
    """Random weights under our keys."""
    shapes = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), registry.variable_shapes(module, 224)
    )
    shapes = {key: value.shape for key, value in torch_weights.to_state_dict(shapes).items()}
    return draw_state(shapes, 0)


def test_takes_the_published_keys(module, state):
    published = {published_key(key): value for key, value in state.items()}
    assert "_blocks.0._depthwise_conv.weight" in published
    assert "_blocks.15._expand_conv.weight" in published
    assert not published.keys() & state.keys()
    expected = torch_weights.from_state_dict(module, 224, state)
    got = torch_weights.from_state_dict(module, 224, published)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_leaves_other_keys_alone(module, state):
    assert [EfficientNetLite.current_key(key) for key in state] == list(state)
    unknown = ["_blocks.16._bn1.bias", "_blocks.0._bn0.bias", "_blocks.1._se_reduce.bias", "_swish"]
    assert [EfficientNetLite.current_key(key) for key in unknown] == unknown
    published = {published_key(key): value for key, value in state.items()}
    published["_blocks.16._bn1.bias"] = np.zeros(320, np.float32)
    with pytest.raises(InputError, match=r"unexpected _blocks\.16\._bn1\.bias \(320,\)$"):
        torch_weights.from_state_dict(module, 224, published)


def validation_photos(archive):
    """RGB images and their ImageNet-1K classes."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            *_, split, wnid, _ = ("", "", *member.name.split("/"))
            if member.isfile() and split == "val":
                content = tar.extractfile(member)
                assert content is not None
                photo = Image.open(io.BytesIO(content.read())).convert("RGB")
                yield np.asarray(photo), INDICES[wnid]


@pytest.mark.slow
def test_classifies_imagenette(module, shared_data):
    """XX of the 500 photos, among a thousand classes."""
    weights = torch_weights.read_state_dict(shared_data / "efficientnet-lite0-57934424.safetensors")
    variables = torch_weights.from_state_dict(module, 224, weights)

    @jax.jit
    def predict(images):
        return module.apply(variables, (images.astype(np.float32) - 127) / 128).argmax(1)

    photos = list(validation_photos(shared_data / "imagenette224_small.tar"))
    images = np.stack([centre_crop(photo, 224) for photo, _ in photos])
    predicted = np.concatenate([predict(part) for part in np.split(images, 10)])
    correct = np.sum(predicted == [label for _, label in photos])
    assert len(photos) == 500
    assert correct >= 370
