"""EfficientNet-Lite0's weights under the keys of EfficientNet-PyTorch, and what they know."""

import io
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

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


def published_keys() -> list[str]:
    """Every weight and statistic of EfficientNet-PyTorch's EfficientNet-Lite0."""
    block = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
    layers = ["_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc"]
    for number in range(16):
        layers += [f"_blocks.{number}.{layer}" for layer in block[0 if number else 2 :]]
    leaves = {"_bn": ("weight", "bias", "running_mean", "running_var"), "_fc": ("weight", "bias")}
    return [
        f"{layer}.{leaf}"
        for layer in layers
        for leaf in leaves.get(layer.rpartition(".")[2][:3], ("weight",))
    ]


def our_keys() -> list[str]:
    shapes = registry.variable_shapes(registry.create(ARCH, 1000, 224), 224)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    return [
        key for key in torch_weights.to_state_dict(zeros) if not key.endswith(torch_weights.BUFFERS)
    ]


@pytest.mark.parametrize(
    ("published", "current"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn0.running_mean", "bn1.running_mean"),
        ("_blocks.0._depthwise_conv.weight", "blocks.0.0.conv_dw.weight"),
        ("_blocks.0._bn1.bias", "blocks.0.0.bn1.bias"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.4._expand_conv.weight", "blocks.2.1.conv_pw.weight"),
        ("_blocks.4._bn0.weight", "blocks.2.1.bn1.weight"),
        ("_blocks.4._depthwise_conv.weight", "blocks.2.1.conv_dw.weight"),
        ("_blocks.4._bn1.running_var", "blocks.2.1.bn2.running_var"),
        ("_blocks.4._project_conv.weight", "blocks.2.1.conv_pwl.weight"),
        ("_blocks.15._bn2.running_var", "blocks.6.0.bn3.running_var"),
        ("_conv_head.weight", "conv_head.weight"),
        ("_bn1.weight", "bn2.weight"),
        ("_fc.bias", "classifier.bias"),
    ],
)
def test_published_key(published, current):
    assert EfficientNetLite.current_key(published) == current


def test_every_published_key_has_its_own_place():
    current = [EfficientNetLite.current_key(key) for key in published_keys()]
    assert sorted(current) == sorted(our_keys())


def test_leaves_other_keys_alone():
    unknown = ["_blocks.16._bn1.bias", "_blocks.0._bn0.bias", "_blocks.1._se_reduce.bias", "_swish"]
    for key in [*our_keys(), *unknown]:
        assert EfficientNetLite.current_key(key) == key


def validation_photos(archive):
    """RGB images and their ImageNet-1K classes."""
    with tarfile.open(archive) as tar:
        for member in tar:
            *_, split, wnid, _ = ("", "", *member.name.split("/"))
            if member.isfile() and split == "val":
                content = tar.extractfile(member)
                assert content is not None
                photo = Image.open(io.BytesIO(content.read())).convert("RGB")
                yield np.asarray(photo), INDICES[wnid]


@pytest.mark.slow
def test_published_weights_classify_imagenette(shared_data):
    """378 of the 500 validation photos, among a thousand classes; the same by timm's network.

    They come cropped to 224 pixels. Enlarged to 256 and cropped again it is 359.
    """
    state = torch_weights.read_state_dict(shared_data / "efficientnet-lite0-57934424.safetensors")
    module = registry.create(ARCH, 1000, 224)
    variables = torch_weights.from_state_dict(module, 224, state)

    @jax.jit
    def predict(images):
        return module.apply(variables, (images.astype(np.float32) - 127) / 128).argmax(1)

    photos = list(validation_photos(shared_data / "imagenette224_small.tar"))
    images = np.stack([photo for photo, _ in photos])
    assert images.shape == (500, 224, 224, 3)
    predicted = np.concatenate([predict(part) for part in np.split(images, 10)])
    correct = np.sum(predicted == [label for _, label in photos])
    assert correct >= 375  # a few are close calls, which another machine's rounding may turn
