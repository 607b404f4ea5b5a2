"""How many seeds' students train in one program."""

from typing import Any

import jax
from flax import linen as nn

from delt_jax.core import training
from delt_jax.models import cost, registry
from delt_jax.runtime import mesh
from delt_jax.stages.packing_width import memory_limit
from delt_jax.stages.protocol import Protocol


def seeds_at_once(
    asked: int, seeds: int, module: nn.Module, image_size: int, protocol: Protocol, set_bytes: int
) -> int:
    """How many of a set's seeds train at once.

    Args:
      asked: `config.evaluate.seeds_at_once`. 0: on an accelerator as many as fit into its memory,
        in groups as equal as can be; on a CPU one, for there convolutions with a kernel for each
        seed take longer than one after another (measured on two cores with other work on them,
        three seeds, batches of 50 at 32 px, the quickest of six: .53 s instead of .30 s a student's
        step for `cifar_resnet20`, .34 s instead of .21 s for `conv3`).
      seeds: how many there are.
      module: the student.
      image_size: side of the images in pixels.
      protocol: how it is trained.
      set_bytes: of the images that one student learns from.
    """
    if asked:
        return min(asked, seeds)
    device = mesh.local_devices()[0]
    if device.platform == "cpu":
        return 1
    limit = memory_limit(device)
    if limit is None:
        return 1
    share = -(-protocol.batch_size // len(mesh.local_devices()))
    needed = student_bytes(module, image_size, protocol, share) + set_bytes
    groups = -(-seeds // max(1, int(limit / needed)))
    return -(-seeds // groups)


def student_bytes(module: nn.Module, image_size: int, protocol: Protocol, share: int) -> float:
    """Bytes that one student takes of a device while it trains, its teacher and its set left out.

    Args:
      module: the student.
      image_size: side of the images in pixels.
      protocol: how it is trained.
      share: images of a batch on the device.

    Returns:
      The state twice (it is donated, but a step makes a new one before the old one goes), the
      gradient, and what autodiff keeps of the program as written; XLA keeps less.
    """
    variables = registry.variable_shapes(module, image_size)
    optimizer, averaged = protocol.make_optimizer(), protocol.average_decay > 0
    state = jax.eval_shape(
        lambda tree: training.create_state(optimizer, tree, averaged=averaged), variables
    )

    def forward(variables: Any, images: jax.Array) -> Any:
        rngs = {"dropout": jax.random.key(0)}
        return module.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)

    kept = cost.kept_for_gradient(forward, variables, image_size)
    gradient = cost.tree_bytes(state.params)
    return 2 * cost.tree_bytes(state) + gradient + share * kept
