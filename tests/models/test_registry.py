"""One contract for every registered architecture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import unfreeze

from delt_jax.errors import InputError
from delt_jax.models import registry

CLASSES = 10
SIDE = 64  # the smallest that conv6 takes

# Parameters with 10 classes at 32 x 32 where published so (ConvNets and CIFAR ResNets), else with
# the 1000 classes at 224 x 224 that torchvision or timm documents.
PARAMETERS = {
    ("conv3", 10): 320010,
    ("cifar_resnet20", 10): 269722,
    ("cifar_resnet32", 10): 464154,
    ("cifar_resnet44", 10): 658586,
    ("cifar_resnet56", 10): 853018,
    ("cifar_resnet110", 10): 1727962,
    ("resnet18", 1000): 11689512,
    ("resnet34", 1000): 21797672,
    ("resnet50", 1000): 25557032,
    ("resnet101", 1000): 44549160,
    ("resnet152", 1000): 60192808,
    ("wide_resnet50_2", 1000): 68883240,
    ("alexnet", 1000): 61100840,
    ("vgg11", 1000): 132863336,
    ("vgg11_bn", 1000): 132868840,
    ("densenet121", 1000): 7978856,
    ("convnext_tiny", 1000): 28589128,
    ("efficientnet_b0", 1000): 5288548,
    ("tf_efficientnet_lite0", 1000): 4652008,
    ("regnet_y_400mf", 1000): 4344144,
    ("regnet_y_8gf", 1000): 39381472,
    ("regnet_x_400mf", 1000): 5495976,
    ("mobilenet_v2", 1000): 3504872,
    ("mobilenet_v3_large", 1000): 5483032,
    ("mnasnet1_3", 1000): 6282256,
    ("shufflenet_v2_x0_5", 1000): 1366792,
    ("vit_b_16", 1000): 86567656,
    ("deit_tiny", 1000): 5717416,
    ("swin_v2_t", 1000): 28351570,
}


def paths_of(tree, leaf_names) -> set[tuple[str, ...]]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    paths = [tuple(entry.key for entry in path) for path, _ in flat]
    assert {path[-1] for path in paths} == set(leaf_names)
    return {path[:-1] for path in paths}


# Tracing them takes seconds, and all but DenseNet have a shallower sibling of the same blocks.
DEEP = {
    "cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110",
    "densenet121", "regnet_y_8gf", "resnet34", "resnet34_small", "resnet50",
    "resnet101", "resnet101_small", "resnet152", "resnet152_small",
    "wide_resnet50_2", "wide_resnet50_2_small",
}  # fmt: skip


@pytest.mark.parametrize(
    "arch",
    [pytest.param(n, marks=[pytest.mark.slow] if n in DEEP else []) for n in registry.NAMES],
)
def test_contract(arch):
    module = registry.create(arch, CLASSES, SIDE)
    assert hash(module) == hash(registry.create(arch, CLASSES, SIDE))
    variables = registry.variable_shapes(module, SIDE)
    has_batch_norm = arch in registry.TEACHER_NAMES
    assert set(variables) == ({"params", "batch_stats"} if has_batch_norm else {"params"})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    images = jax.ShapeDtypeStruct((2, SIDE, SIDE, 3), jnp.bfloat16)

    def inference(variables, images):
        return module.apply(variables, images, mutable=["bn_stats", "features"])

    logits, out = jax.eval_shape(inference, variables, images)
    assert logits.shape == (2, CLASSES)
    assert logits.dtype == jnp.bfloat16
    assert out["features"]["penultimate"].ndim == 2
    assert out["features"]["penultimate"].shape[0] == 2

    order = registry.batch_norm_order(module, SIDE)
    assert len(set(order)) == len(order)
    assert bool(order) == has_batch_norm
    momenta = registry.batch_norm_momenta(module, SIDE)
    if has_batch_norm:
        assert jax.tree.structure(unfreeze(momenta)) == jax.tree.structure(variables["batch_stats"])
        assert set(order) == paths_of(variables["batch_stats"], ["mean", "var"])
        assert set(order) == paths_of(out["bn_stats"], ["first", "second"])
    for path in order:
        mean, moments = variables["batch_stats"], out["bn_stats"]
        for name in path:
            mean, moments = mean[name], moments[name]
        for moment in moments.values():
            assert moment.shape == (2, *mean["mean"].shape)
            assert moment.dtype == jnp.float32

    def training(variables, images):
        return module.apply(variables, images, train=True, mutable=["batch_stats"])

    logits, out = jax.eval_shape(training, variables, images)
    assert logits.shape == (2, CLASSES)
    if has_batch_norm:
        structure = jax.tree.structure(variables["batch_stats"])
        assert jax.tree.structure(out["batch_stats"]) == structure


@pytest.mark.parametrize(("arch", "num_classes"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(arch, num_classes):
    side = 32 if num_classes == 10 else 224
    module = registry.create(arch, num_classes, side)
    leaves = jax.tree.leaves(registry.variable_shapes(module, side)["params"])
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[arch, num_classes]


@pytest.mark.parametrize("arch", ["conv3_w32", "cifar_resnet20", "resnet18"])
def test_jit_equals_eager_and_bfloat16_is_near(arch):
    module = registry.create(arch, CLASSES, 16)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    rng = np.random.default_rng(0)
    variables = (
        jax.tree.map(  # positive, so that it can be a variance; small, so that none explodes
            lambda leaf: rng.uniform(0.0, 0.1, leaf.shape).astype(np.float32),
            registry.variable_shapes(module, 16),
        )
    )

    def apply(variables, images):
        return module.apply(variables, images, mutable=["bn_stats", "features"])

    eager, jitted = apply(variables, images), jax.jit(apply)(variables, images)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), eager, jitted)
    logits, _ = jax.jit(apply)(variables, images.astype(jnp.bfloat16))
    scale = np.abs(eager[0]).max()
    np.testing.assert_allclose(logits.astype(jnp.float32), eager[0], atol=0.1 * scale)


def test_order_is_that_of_the_forward_pass_not_of_the_names():
    order = registry.batch_norm_order(registry.create("cifar_resnet110", CLASSES, 32), 32)
    names = [".".join(path) for path in order]
    assert names[:3] == ["bn1", "layer1.0.bn1", "layer1.0.bn2"]
    assert names.index("layer1.2.bn1") < names.index("layer1.10.bn1")
    order = registry.batch_norm_order(registry.create("resnet18", CLASSES, 32), 32)
    names = [".".join(path) for path in order]
    assert names[5:8] == ["layer2.0.bn1", "layer2.0.bn2", "layer2.0.downsample.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet81", 10, 32), "unknown architecture 'resnet81'; expected one of: resnet18"),
        (("xyz", 10, 32), "unknown architecture 'xyz'; expected one of: conv3, .*, resnet101"),
        (("conv6", 10, 32), "conv6: images of side 32, expected at least 64"),
        (("conv3", 0, 32), "conv3: 0 classes, expected at least 1"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        registry.create(*arguments)


def test_teachers_have_batch_norm():
    assert set(registry.TEACHER_NAMES) <= set(registry.NAMES)
    assert "cifar_resnet20" in registry.TEACHER_NAMES
