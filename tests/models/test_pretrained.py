"""Weights by name, by address and by path."""

import pytest

from delt_jax.errors import InputError
from delt_jax.models import pretrained, registry


def test_names_become_addresses():
    first = pretrained.published("torchvision", "resnet50")
    assert first == "https://download.pytorch.org/models/resnet50-0676ba61.pth"
    assert pretrained.published("torchvision:V1", "resnet50") == first
    second = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert pretrained.published("torchvision:V2", "resnet50") == second
    assert pretrained.published("torchvision:IMAGENET1K_V2", "resnet50") == second


@pytest.mark.parametrize(
    ("weights", "arch", "message"),
    [
        ("torchvison", "resnet18", r"no such file \(did you mean 'torchvision'\?\); expected"),
        ("nowhere.pth", "resnet18", "weights 'nowhere.pth': no such file; expected a file"),
        ("torchvision:V2", "resnet18", "resnet18 has no version 'V2'; expected one of V1"),
        ("torchvision", "deit_tiny", "torchvision has none for deit_tiny; timm has"),
        ("torchvision", "resnet18_small", "has none for resnet18_small; it has resnet18"),
        ("timm", "conv3", "timm has none for conv3; it has deit_tiny, tf_efficientnet_lite0"),
    ],
)
def test_refuses(weights, arch, message):
    with pytest.raises(InputError, match=message) as caught:
        pretrained.check(weights, arch)
    assert "\n" not in str(caught.value)


def test_every_name_is_an_architecture():
    for archs in pretrained._FILES.values():
        assert set(archs) <= set(registry.NAMES)


def test_addresses_are_those_of_torchvision(torchvision):
    for arch in pretrained._FILES["torchvision"]:
        for weights in torchvision.models.get_model_weights(arch):
            version = weights.name.removeprefix("IMAGENET1K_")
            assert pretrained.published(f"torchvision:{version}", arch) == weights.url
            transform = weights.transforms()
            assert (tuple(transform.mean), tuple(transform.std)) == pretrained.IMAGENET


def test_addresses_are_those_of_timm():
    models = pytest.importorskip("timm").models
    for arch, name in (
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"),
        ("deit_tiny", "deit_tiny_patch16_224.fb_in1k"),
    ):
        configured = models.get_pretrained_cfg(name)
        assert pretrained.published("timm", arch) == configured.url
        expected = pretrained._STATISTICS.get(arch, pretrained.IMAGENET)
        assert (configured.mean, configured.std) == expected
