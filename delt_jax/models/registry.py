"""Architectures by name, and what every one of them promises.

`module.apply(variables, images, train=False)` takes normalised images `[b, h, w, 3]` and returns
logits `[b, k]`, computing in the images' dtype (BatchNorm in at least float32). On request it adds

- `mutable=["bn_stats"]`: `first` and `second` of each BatchNorm, under the path that it has in
  `batch_stats` (see `delt_jax.models.batch_norm`);
- `mutable=["features"]`: `features/penultimate` `[b, d]`, the classifier's input;
- `train=True, mutable=["batch_stats"]`: the updated running statistics;
- `train=True, rngs={"dropout": key}`: dropout and stochastic depth, where it has any.

`variables` are `{"params": ..., "batch_stats": ...}`, float32 (without `batch_stats` where there is
no BatchNorm), and `".".join(path)` of a module is its path in torch. A module may define
`current_key(key)`, a static method that maps the keys of an older or another publication of its
weights to these.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict, freeze
from flax.traverse_util import unflatten_dict
from jaxtyping import Array, Key

from delt_jax.errors import InputError
from delt_jax.models.alexnet import AlexNet
from delt_jax.models.batch_norm import BatchNorm
from delt_jax.models.cifar_resnet import CifarResNet
from delt_jax.models.convnet import WIDTH, ConvNet
from delt_jax.models.convnext import ConvNeXt
from delt_jax.models.densenet import DenseNet
from delt_jax.models.efficientnet import EfficientNet
from delt_jax.models.efficientnet_lite import EfficientNetLite
from delt_jax.models.mnasnet import MNASNet
from delt_jax.models.mobilenet import MobileNetV2, MobileNetV3
from delt_jax.models.mobilenet_small import MobileNetV2Small
from delt_jax.models.regnet import RegNet
from delt_jax.models.resnet import BasicBlock, Bottleneck, ResNet, WideBottleneck
from delt_jax.models.shufflenet import ShuffleNetV2
from delt_jax.models.swin import SwinTransformerV2
from delt_jax.models.vgg import VGG
from delt_jax.models.vision_transformer import PATCH, DeiT, VisionTransformer


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How to build one architecture.

    Attributes:
      build: makes the module, given the number of classes.
      min_side: smallest image side in pixels that it can take.
      side_multiple: what the side must be a multiple of.
      has_batch_norm: whether it can be a teacher.
    """

    build: Callable[[int], nn.Module]
    min_side: int = 1
    side_multiple: int = 1
    has_batch_norm: bool = True


def _convnet(depth: int, width: int = WIDTH) -> Architecture:
    return Architecture(lambda k: ConvNet(depth, k, width), min_side=2**depth)


def _cifar_resnet(depth: int) -> Architecture:
    return Architecture(lambda k: CifarResNet((depth - 2) // 6, k))


def _resnet(
    block: type[BasicBlock] | type[Bottleneck], *blocks: int, small_images: bool = False
) -> Architecture:
    return Architecture(lambda k: ResNet(block, blocks, k, small_images))


def _regnet(
    blocks: tuple[int, ...], widths: tuple[int, ...], group_width: int, squeeze_excitation: bool
) -> Architecture:
    return Architecture(lambda k: RegNet(blocks, widths, group_width, k, squeeze_excitation))


def _vision_transformer(
    family: type[VisionTransformer] | type[DeiT], depth: int, width: int, heads: int
) -> Architecture:
    return Architecture(
        lambda k: family(depth, width, heads, k),
        min_side=PATCH,
        side_multiple=PATCH,
        has_batch_norm=False,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "conv3": _convnet(3),
    "conv3_w32": _convnet(3, 32),  # the field's ConvNetW32, for small machines
    "conv3_w64": _convnet(3, 64),
    "conv4": _convnet(4),
    "conv5": _convnet(5),
    "conv6": _convnet(6),
    "cifar_resnet20": _cifar_resnet(20),
    "cifar_resnet32": _cifar_resnet(32),
    "cifar_resnet44": _cifar_resnet(44),
    "cifar_resnet56": _cifar_resnet(56),
    "cifar_resnet110": _cifar_resnet(110),
    "resnet18": _resnet(BasicBlock, 2, 2, 2, 2),
    "resnet18_small": _resnet(BasicBlock, 2, 2, 2, 2, small_images=True),
    "resnet34": _resnet(BasicBlock, 3, 4, 6, 3),
    "resnet34_small": _resnet(BasicBlock, 3, 4, 6, 3, small_images=True),
    "resnet50": _resnet(Bottleneck, 3, 4, 6, 3),
    "resnet50_small": _resnet(Bottleneck, 3, 4, 6, 3, small_images=True),
    "resnet101": _resnet(Bottleneck, 3, 4, 23, 3),
    "resnet101_small": _resnet(Bottleneck, 3, 4, 23, 3, small_images=True),
    "resnet152": _resnet(Bottleneck, 3, 8, 36, 3),
    "resnet152_small": _resnet(Bottleneck, 3, 8, 36, 3, small_images=True),
    "wide_resnet50_2": _resnet(WideBottleneck, 3, 4, 6, 3),
    "wide_resnet50_2_small": _resnet(WideBottleneck, 3, 4, 6, 3, small_images=True),
    "alexnet": Architecture(AlexNet, min_side=63, has_batch_norm=False),
    "vgg11": Architecture(lambda k: VGG((1, 1, 2, 2, 2), k), min_side=32, has_batch_norm=False),
    "vgg11_bn": Architecture(lambda k: VGG((1, 1, 2, 2, 2), k, batch_norm=True), min_side=32),
    "densenet121": Architecture(lambda k: DenseNet((6, 12, 24, 16), k), min_side=29),
    "convnext_tiny": Architecture(
        lambda k: ConvNeXt((3, 3, 9, 3), (96, 192, 384, 768), k, drop_rate=0.1),
        min_side=32,
        has_batch_norm=False,
    ),
    "efficientnet_b0": Architecture(EfficientNet),
    "tf_efficientnet_lite0": Architecture(EfficientNetLite),
    "regnet_y_400mf": _regnet((1, 3, 6, 6), (48, 104, 208, 440), 8, squeeze_excitation=True),
    "regnet_y_8gf": _regnet((2, 4, 10, 1), (224, 448, 896, 2016), 56, squeeze_excitation=True),
    "regnet_x_400mf": _regnet((1, 2, 7, 12), (32, 64, 160, 400), 16, squeeze_excitation=False),
    "mobilenet_v2": Architecture(MobileNetV2),
    "mobilenet_v2_small": Architecture(MobileNetV2Small),
    "mobilenet_v3_large": Architecture(MobileNetV3),
    "mnasnet1_3": Architecture(lambda k: MNASNet(1.3, k)),
    "shufflenet_v2_x0_5": Architecture(lambda k: ShuffleNetV2((24, 48, 96, 192, 1024), k)),
    "vit_b_16": _vision_transformer(VisionTransformer, 12, 768, 12),
    "deit_tiny": _vision_transformer(DeiT, 12, 192, 3),  # timm's deit_tiny_patch16_224
    "swin_v2_t": Architecture(
        lambda k: SwinTransformerV2((2, 2, 6, 2), (3, 6, 12, 24), 96, k),
        min_side=4,
        has_batch_norm=False,
    ),
}
NAMES: tuple[str, ...] = tuple(ARCHITECTURES)
TEACHER_NAMES: tuple[str, ...] = tuple(
    name for name, architecture in ARCHITECTURES.items() if architecture.has_batch_norm
)


def create(arch: str, num_classes: int, image_size: int) -> nn.Module:
    """Builds the module of an architecture.

    Args:
      arch: one of `NAMES`.
      num_classes: k, the number of logits.
      image_size: side of its images in pixels.

    Raises:
      InputError: for an unknown name (the nearest ones are named), or images too small for it.
    """
    if arch not in ARCHITECTURES:
        near = difflib.get_close_matches(arch, NAMES, n=3) or NAMES
        raise InputError(f"unknown architecture {arch!r}; expected one of: {', '.join(near)}")
    architecture = ARCHITECTURES[arch]
    if image_size < architecture.min_side:
        raise InputError(
            f"{arch}: images of side {image_size}, expected at least {architecture.min_side}"
        )
    if image_size % architecture.side_multiple:
        raise InputError(
            f"{arch}: images of side {image_size}, expected a multiple of "
            f"{architecture.side_multiple}"
        )
    if num_classes < 1:
        raise InputError(f"{arch}: {num_classes} classes, expected at least 1")
    return _build(arch, num_classes)


@functools.cache
def _build(arch: str, num_classes: int) -> nn.Module:
    """Builds a module once, so that its `apply` is always the same function."""
    return ARCHITECTURES[arch].build(num_classes)


def check_teacher(arch: str) -> None:
    """Raises `InputError` for an architecture that cannot be a teacher, as it has no BatchNorm."""
    if arch in NAMES and arch not in TEACHER_NAMES:
        near = difflib.get_close_matches(arch, TEACHER_NAMES, n=3) or TEACHER_NAMES
        raise InputError(
            f"architecture {arch!r} has no BatchNorm, whose statistics a teacher needs (it can be "
            f"a student); expected a teacher such as {', '.join(near[:8])}"
        )


def variable_shapes(module: nn.Module, image_size: int) -> dict:
    """The tree of `variables` with a `jax.ShapeDtypeStruct` for each leaf; computes nothing."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.result_type(float))
    return jax.eval_shape(module.init, jax.random.key(0), images)


def initialise(module: nn.Module, image_size: int, key: Key[Array, ""]) -> dict:
    """Fresh `variables`, distributed as those of the architecture's published implementation."""
    return _initialiser(module, image_size)(key)


@functools.lru_cache(maxsize=64)
def _initialiser(module: nn.Module, image_size: int) -> Callable[[Key[Array, ""]], dict]:
    images = (1, image_size, image_size, 3)
    return jax.jit(lambda key: module.init(key, jnp.zeros(images)))  # leaves the forward pass out


def batch_norm_order(module: nn.Module, image_size: int) -> tuple[tuple[str, ...], ...]:
    """Paths of the BatchNorms in forward order, which is the order of torch's `modules()`.

    Needed because a tree's leaves sort by name ("layer1.10" before "layer1.2"): the network's first
    BatchNorm is `batch_norm_order(...)[0]`, never the first leaf.
    """
    return tuple(module.path for module in _batch_norms(module, image_size))


@functools.lru_cache(maxsize=64)
def batch_norm_momenta(module: nn.Module, image_size: int) -> FrozenDict:
    """The weight of a new batch in each running statistic, as a tree like `batch_stats`."""
    flat = {
        (*norm.path, leaf): norm.momentum
        for norm in _batch_norms(module, image_size)
        for leaf in ("mean", "var")
    }
    return freeze(unflatten_dict(flat))


def _batch_norms(module: nn.Module, image_size: int) -> list[BatchNorm]:
    """The BatchNorms in forward order."""
    norms: list[BatchNorm] = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            norms.append(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        variable_shapes(module, image_size)
    return norms
