"""Published ImageNet-1K weights by name, and weights from wherever a user has them.

The addresses are those of torchvision's model builders (torchvision/models/*.py) and of timm's
(timm/models/{efficientnet,deit}.py); the digits in a file's name begin its SHA-256.
"""

import dataclasses
import difflib
import pathlib

from delt_jax.errors import InputError, did_you_mean
from delt_jax.runtime import download

Channels = tuple[float, float, float]

_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM_LITE0 = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_DEIT = "https://dl.fbaipublicfiles.com/deit/"
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# publisher -> architecture -> version -> file. The first version is what the bare name means: V1,
# the one of the papers of this field (torchvision itself would take its newest).
_FILES: dict[str, dict[str, dict[str, str]]] = {
    "torchvision": {
        "resnet18": {"V1": "resnet18-f37072fd.pth"},
        "resnet34": {"V1": "resnet34-b627a593.pth"},
        "resnet50": {"V1": "resnet50-0676ba61.pth", "V2": "resnet50-11ad3fa6.pth"},
        "resnet101": {"V1": "resnet101-63fe2227.pth", "V2": "resnet101-cd907fc2.pth"},
        "resnet152": {"V1": "resnet152-394f9c45.pth", "V2": "resnet152-f82ba261.pth"},
        "wide_resnet50_2": {
            "V1": "wide_resnet50_2-95faca4d.pth",
            "V2": "wide_resnet50_2-9ba9bcbe.pth",
        },
        "mobilenet_v2": {"V1": "mobilenet_v2-b0353104.pth", "V2": "mobilenet_v2-7ebf99e0.pth"},
        "mobilenet_v3_large": {
            "V1": "mobilenet_v3_large-8738ca79.pth",
            "V2": "mobilenet_v3_large-5c1a4163.pth",
        },
        "efficientnet_b0": {"V1": "efficientnet_b0_rwightman-7f5810bc.pth"},
        "regnet_y_400mf": {
            "V1": "regnet_y_400mf-c65dace8.pth",
            "V2": "regnet_y_400mf-e6988f5f.pth",
        },
        "regnet_x_400mf": {
            "V1": "regnet_x_400mf-adf1edd5.pth",
            "V2": "regnet_x_400mf-62229a5f.pth",
        },
        "regnet_y_8gf": {"V1": "regnet_y_8gf-d0d0e4a8.pth", "V2": "regnet_y_8gf-dc2b1b54.pth"},
        "mnasnet1_3": {"V1": "mnasnet1_3-a4c69d6f.pth"},
        "shufflenet_v2_x0_5": {"V1": "shufflenetv2_x0.5-f707e7126e.pth"},
        "vgg11": {"V1": "vgg11-8a719046.pth"},
        "vgg11_bn": {"V1": "vgg11_bn-6002323d.pth"},
        "alexnet": {"V1": "alexnet-owt-7be5be79.pth"},
        "densenet121": {"V1": "densenet121-a639ec97.pth"},
        "convnext_tiny": {"V1": "convnext_tiny-983f1562.pth"},
        "vit_b_16": {
            "V1": "vit_b_16-c867db91.pth",
            "SWAG_E2E_V1": "vit_b_16_swag-9ac1b537.pth",
            "SWAG_LINEAR_V1": "vit_b_16_lc_swag-4e70ced5.pth",
        },
        "swin_v2_t": {"V1": "swin_v2_t-b137f0e2.pth"},
    },
    "timm": {
        "tf_efficientnet_lite0": {"V1": "tf_efficientnet_lite0-0aa007d2.pth"},
        "deit_tiny": {"V1": "deit_tiny_patch16_224-a1311bcf.pth"},
    },
}
_ADDRESSES = {"tf_efficientnet_lite0": _TIMM_LITE0, "deit_tiny": _DEIT}
_STATISTICS = {"tf_efficientnet_lite0": _HALF}  # all others: ImageNet's


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine, and what is known of it.

    Attributes:
      path: of the file.
      origin: where it is from: a URL, or a file's name.
      statistics: (mean, std) that its inputs are normalised with, where its publisher says.
    """

    path: pathlib.Path
    origin: str
    statistics: tuple[Channels, Channels] | None = None


def published(weights: str, arch: str) -> str:
    """The URL of published ImageNet-1K weights.

    Args:
      weights: "torchvision" or "timm", alone or with a version as "torchvision:V2"
        ("torchvision:IMAGENET1K_V2" is the same).
      arch: architecture.

    Raises:
      InputError: for a publisher, an architecture or a version that there is not.
    """
    publisher, _, version = weights.partition(":")
    if publisher not in _FILES:
        raise InputError(f"weights {weights!r}: expected one of {', '.join(_FILES)}")
    archs = _FILES[publisher]
    if arch not in archs:
        others = [name for name in _FILES if arch in _FILES[name]]
        near = difflib.get_close_matches(arch, archs, n=3) or sorted(archs)
        hint = f"; {others[0]} has" if others else f"; it has {', '.join(near)}"
        raise InputError(f"weights {weights!r}: {publisher} has none for {arch}{hint}")
    versions = archs[arch]
    version = version.removeprefix("IMAGENET1K_") or next(iter(versions))
    if version not in versions:
        raise InputError(
            f"weights {weights!r}: {arch} has no version {version!r}; "
            f"expected one of {', '.join(versions)}"
        )
    return _ADDRESSES.get(arch, _TORCHVISION) + versions[version]


def is_published(weights: str) -> bool:
    """Whether `weights` names a publisher rather than a file or an address."""
    return weights.partition(":")[0] in _FILES


def is_address(weights: str) -> bool:
    """Whether `weights` is a URL."""
    return "://" in weights


def check_address(weights: str) -> None:
    """Raises `InputError` for a URL that cannot be fetched and verified, or holds a secret."""
    if is_address(weights):
        download.check_address(weights)


def check(weights: str, arch: str) -> None:
    """Raises `InputError` where `find` could not succeed, without touching the network."""
    if is_published(weights):
        published(weights, arch)
    elif is_address(weights):
        download.check_address(weights)
    elif not _exists(weights):
        raise InputError(
            f"weights {weights!r}: no such file{did_you_mean(weights, _FILES)}; expected a "
            "file, a folder, an https:// address, or "
            f"{' or '.join(map(repr, _FILES))}"
        )


def _exists(path: str) -> bool:
    try:
        return pathlib.Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long; the home of nobody; a NUL
        return False


def find(weights: str, arch: str) -> WeightsFile:
    """Brings weights onto this machine.

    Args:
      weights: a file, a URL (see `delt_jax.runtime.download`), or a publisher's name (see
        `published`).
      arch: architecture.

    Raises:
      InputError: as `check`, and where a download fails or is not what its hash says.
    """
    check(weights, arch)
    if is_published(weights):
        url = published(weights, arch)
        return WeightsFile(download.download(url), url, _STATISTICS.get(arch, IMAGENET))
    if is_address(weights):
        return WeightsFile(download.download(weights), weights)
    path = pathlib.Path(weights).expanduser()
    return WeightsFile(path, path.name)
