"""What the parity tests compare: one network in float64, from weights that a recipe draws."""

import functools
import pathlib
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import drawn_variables

from delt_jax.models import registry, torch_weights

CLASSES = 3
BATCH = 3
GOLDENS = pathlib.Path(__file__).parent / "goldens"

# Side of the images for each network that is compared. Odd where the network can take it, so that
# strides, pooling and padding must drop and add the same rows as torch's.
SIDES = {
    "conv3": 17,
    "cifar_resnet20": 9,
    "resnet18": 37,
    "resnet18_small": 9,
    "resnet34": 33,
    "resnet50": 33,
    "resnet50_small": 9,
    "resnet101": 33,
    "resnet152": 33,
    "wide_resnet50_2": 33,
    "alexnet": 67,
    "vgg11": 67,
    "vgg11_bn": 67,
    "densenet121": 65,
    "convnext_tiny": 39,  # XLA is slow in float64 where a map is between 1x1 and the 7x7 kernel
    "efficientnet_b0": 37,
    "tf_efficientnet_lite0": 38,  # even: so "SAME" pads unevenly, by 3x3 and by 5x5 kernels
    "regnet_y_400mf": 37,
    "regnet_y_8gf": 33,
    "regnet_x_400mf": 37,
    "mobilenet_v2": 35,
    "mobilenet_v2_small": 9,
    "mobilenet_v3_large": 35,
    "mnasnet1_3": 35,
    "shufflenet_v2_x0_5": 35,
    "vit_b_16": 32,
    "deit_tiny": 48,
    "swin_v2_t": 71,  # 17, 9, 5 and 3 patches: windows are padded, shifted or not, merging is odd
}

# What every change is tested with: teachers of the paper's small tables, attention. The others take
# ten seconds and more each.
USUAL = {
    "conv3", "cifar_resnet20", "resnet18", "resnet18_small", "deit_tiny",
}  # fmt: skip


def parameter(arch):
    return pytest.param(arch, marks=[] if arch in USUAL else [pytest.mark.slow], id=arch)


ARCHS = [parameter(arch) for arch in SIDES]

# Quicker to compile than the default, and to run than level 0, whose float64 loops are slow.
QUICK = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True}

# As `rtol` and, times the largest expected value, `atol`.
FLOAT64 = 1e-9


class Inputs(NamedTuple):
    """Normalised images `[b, h, w, 3]`, and the weights of the logits `[b, k]` in the objective."""

    images: np.ndarray
    cotangent: np.ndarray


class Outputs(NamedTuple):
    """What a network does with its inputs; float64.

    Attributes:
      logits: in inference mode, `[b, k]`.
      gradient: of `sum(cotangent logits) + sum |mean| + |var|` (the norms of each BatchNorm's batch
        statistics) in the images, `[b, h, w, 3]`.
      means: batch mean of each BatchNorm's input in inference mode, by its torch path, in order.
      variances: likewise the biased variance.
      train_logits: in train mode, without dropout.
      running: running statistics after it, under torch's keys.
    """

    logits: Any
    gradient: Any
    means: dict[str, Any]
    variances: dict[str, Any]
    train_logits: Any
    running: dict[str, Any]


def draw_inputs(arch: str) -> Inputs:
    random = np.random.default_rng(zlib.crc32(arch.encode()))
    side = SIDES[arch]
    return Inputs(random.normal(size=(BATCH, side, side, 3)), random.normal(size=(BATCH, CLASSES)))


def seed(arch: str) -> int:
    return zlib.crc32(f"weights of {arch}".encode())


def _moments(variables, stats, path):
    for name in path:
        variables, stats = variables[name], stats[name]
    first, second = stats["first"].mean(0), stats["second"].mean(0)
    return variables["mean"] + first, second - first**2


@functools.cache
def ours(arch: str) -> Outputs:
    """Ours; computed once for the golden's test and torch's."""
    module = registry.create(arch, CLASSES, SIDES[arch])
    order = registry.batch_norm_order(module, SIDES[arch])
    names = [".".join(path) for path in order]

    def objective(images, variables, cotangent):
        logits, out = module.apply(variables, images, mutable=["bn_stats"])
        stats = out.get("bn_stats", {})
        moments = [_moments(variables["batch_stats"], stats, path) for path in order]
        norms = sum(jnp.linalg.norm(mean) + jnp.linalg.norm(var) for mean, var in moments)
        return jnp.sum(logits * cotangent) + norms, (logits, moments)

    def everything(variables, images, cotangent):
        gradient, (logits, moments) = jax.grad(objective, has_aux=True)(
            images, variables, cotangent
        )
        train_logits, updated = module.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, gradient, moments, train_logits, updated

    with jax.enable_x64(True):
        variables = drawn_variables(module, SIDES[arch], seed(arch))
        program = jax.jit(everything, compiler_options=QUICK)
        logits, gradient, moments, train_logits, updated = jax.device_get(
            program(variables, *map(jnp.asarray, draw_inputs(arch)))
        )
    return Outputs(
        logits,
        gradient,
        dict(zip(names, (mean for mean, _ in moments), strict=True)),
        dict(zip(names, (variance for _, variance in moments), strict=True)),
        train_logits,
        {
            key: value
            for key, value in torch_weights.to_state_dict(updated).items()
            if not key.endswith("num_batches_tracked")
        },
    )


def assert_near(ours, expected, what: str = "", tolerance: float = FLOAT64) -> None:
    expected = np.asarray(expected)
    atol = tolerance * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=atol, err_msg=what)


def summarise(outputs: Outputs) -> dict[str, np.ndarray]:
    """Few numbers that depend on every output: logits, and random projections of all else."""
    random = np.random.default_rng(0)

    def project(value) -> float:
        value = np.asarray(value)
        return float(np.sum(value * random.normal(size=value.shape)) / np.sqrt(value.size))

    return {
        "logits": np.asarray(outputs.logits),
        "gradient": np.array([project(image) for image in outputs.gradient]),
        "batch_norms": np.array(list(outputs.means), dtype=np.str_),
        "means": np.array([project(value) for value in outputs.means.values()]),
        "variances": np.array([project(value) for value in outputs.variances.values()]),
        "train_logits": np.asarray(outputs.train_logits),
        "running": np.array([project(outputs.running[key]) for key in sorted(outputs.running)]),
    }
