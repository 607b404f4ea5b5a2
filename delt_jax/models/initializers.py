"""torch's weight initialisers, by the name torch gives them.

A student's accuracy after a few hundred epochs on a small set depends on how it starts, so every
architecture here starts as its published PyTorch implementation does.

References:
  He et al., Delving Deep into Rectifiers, arXiv 1502.01852; pytorch/torch/nn/init.py.
"""

import math

import jax
from flax import linen as nn
from jax.nn.initializers import Initializer

# torch.nn.init.kaiming_normal_(mode="fan_out", nonlinearity="relu"): torchvision's ResNets.
kaiming_normal_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# torch.nn.init.kaiming_normal_: gain sqrt(2) over the fan in.
kaiming_normal_fan_in: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

# What torch.nn.Conv2d and Linear do unless told otherwise: kaiming_uniform_(a=sqrt(5)), which is
# uniform in +-1 / sqrt(fan in), i.e. of variance 1 / (3 fan in).
torch_default_kernel: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

# Uniform in +-1 / sqrt(fan out), i.e. of variance 1 / (3 fan out): classifiers of EfficientNets.
uniform_fan_out: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")

# torch.nn.init.trunc_normal_(std=0.02): it cuts at +-2, a hundred deviations away, i.e. not at all.
trunc_normal_002: Initializer = nn.initializers.normal(0.02)


def torch_default_bias(fan_in: int) -> Initializer:
    """The bias of torch.nn.Conv2d and Linear: uniform in +-1 / sqrt(fan_in).

    Args:
      fan_in: the layer's number of inputs per output (kernel height x width x input channels);
        an initialiser cannot see it, because it is handed the shape of the bias alone.
    """
    bound = 1.0 / math.sqrt(fan_in)

    def initialise(key, shape, dtype=None, out_sharding=None) -> jax.Array:
        del out_sharding
        return jax.random.uniform(key, shape, dtype or float, -bound, bound)

    return initialise
