"""Glue between models and core: a teacher as the pure functions that synthesis takes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from delt_jax import target
from delt_jax.core import objectives, programs, synthesis
from delt_jax.core.objectives import ImageMoments, Objective, Path
from delt_jax.core.synthesis import Forward, Variables
from delt_jax.data.specs import Channels
from delt_jax.models import registry, windows


def prepared(variables: Variables) -> Variables:
    """A frozen teacher's variables with what makes its image gradients fast on this platform.

    On CPU, XLA would turn every kernel round anew at each step.
    """
    return windows.with_adjoints(variables) if target.platform() == "cpu" else variables


def method(
    module: nn.Module,
    image_size: int,
    variables: Variables,
    statistics: tuple[Channels, Channels],
    options: Any,
) -> synthesis.Method:
    """The parts of a step, as a config says.

    Args:
      module: of the teacher, from `delt_jax.models.registry.create`.
      image_size: side of its images in pixels.
      variables: `{"params": ..., "batch_stats": ...}`.
      statistics: (mean, std) that images are normalised with.
      options: `config.synthesis`.
    """
    channels = list(zip(*statistics, strict=True))
    return synthesis.Method(
        forward=matching_forward(module, programs.compute_dtype(options.compute_dtype)),
        objective=matching_objective(
            module, image_size, variables, options.bn_weight, options.first_bn_multiplier
        ),
        draw_view=synthesis.view_drawer(
            image_size, options.max_crop, options.flip, options.jitter, options.view_per_image
        ),
        low=tuple(-mean / std for mean, std in channels),
        high=tuple((1 - mean) / std for mean, std in channels),
        adam=synthesis.Adam(
            options.beta1, options.beta2, options.epsilon, options.fresh_bias_correction
        ),
        departed_drift=options.departed_drift,
    )


def matching_forward(module: nn.Module, compute_dtype: jnp.dtype | None = None) -> Forward:
    """The teacher in inference mode with the moments of its BatchNorm inputs.

    Args:
      module: from `delt_jax.models.registry.create`.
      compute_dtype: dtype of activations, e.g. bfloat16; None: that of the images. Logits come back
        in the images' dtype; moments are at least float32.
    """

    def forward(variables: Variables, images: jax.Array) -> tuple[jax.Array, dict]:
        inputs = images if compute_dtype is None else images.astype(compute_dtype)
        logits, sown = module.apply(variables, inputs, train=False, mutable=["bn_stats"])
        return logits.astype(images.dtype), _by_path(sown["bn_stats"])

    return forward


def _by_path(tree: Mapping[str, Any]) -> dict[Path, ImageMoments]:
    leaves: dict[Path, Any] = flatten_dict(dict(tree))
    paths = dict.fromkeys(path[:-1] for path in leaves)
    return {
        path: ImageMoments(leaves[(*path, "first")], leaves[(*path, "second")]) for path in paths
    }


def matching_objective(
    module: nn.Module,
    image_size: int,
    variables: Variables,
    bn_weight: float,
    first_bn_multiplier: float,
) -> Objective:
    """DELT's objective for a teacher: its running statistics, its first BatchNorm weighted more.

    Args:
      module: from `delt_jax.models.registry.create`.
      image_size: side of its images in pixels.
      variables: `{"params": ..., "batch_stats": ...}`.
      bn_weight: weight of the BatchNorm terms (.01 in the paper).
      first_bn_multiplier: further weight of the network's first BatchNorm (10 in the paper).
    """
    order = registry.batch_norm_order(module, image_size)
    weights = {path: first_bn_multiplier if i == 0 else 1.0 for i, path in enumerate(order)}
    targets = objectives.batch_norm_targets(variables["batch_stats"])
    return objectives.cross_entropy_and_batch_norm(targets, weights, bn_weight)
