"""Weights of the goldens: NumPy draws in torch layout (see tests/goldens/README.md)."""

import jax
import numpy as np

from delt_jax.models import registry, torch_weights


def golden_architecture(arch: str, stem: str) -> str:
    """Our name of a golden's network."""
    return f"{arch}_small" if stem == "cifar" and arch.startswith("resnet") else arch


def golden_variables(arch: str, num_classes: int, size: int, seed: int):
    """The module and its float64 variables, drawn by the goldens' recipe."""
    module = registry.create(arch, num_classes, size)
    return module, drawn_variables(module, size, seed)


def drawn_variables(module, size: int, seed: int):
    """Float64 variables of any module, drawn by the goldens' recipe."""
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), registry.variable_shapes(module, size))
    shapes = {key: value.shape for key, value in torch_weights.to_state_dict(zeros).items()}
    return torch_weights.from_state_dict(module, size, draw_state(shapes, seed))


def draw_state(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """A torch state_dict of these shapes, without the buffers that are no weights."""
    random = np.random.default_rng(seed)
    drawn = sorted(key for key in shapes if not key.endswith(torch_weights.BUFFERS))
    return {key: _draw(random, key, shapes[key]) for key in drawn}


def _draw(random: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if key.endswith("running_mean"):
        return random.normal(0, 0.1, shape)
    if len(shape) == 1 and key.endswith("weight"):
        return random.uniform(0.3, 0.7, shape)
    if len(shape) == 1:
        return random.normal(0, 0.1, shape)
    return random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
