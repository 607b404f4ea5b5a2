"""The orders in which PyTorch's `RandomSampler` shows a set, epoch by epoch, without PyTorch.

Loaders that find stored labels batch by batch (SRe2L's FKD) draw the order of the images anew from
a seed, so labels that they are to read must have been made in that order.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

FKD_SEED = 42  # of the loader in VILA-Lab/SRe2L at 8d00cba, SRe2L/relabel/utils_fkd.py


def sampler_orders(seed: int, count: int) -> Iterator[Int[np.ndarray, " n"]]:
    """Yields, for ever, what `RandomSampler(set, generator=g)` yields in epoch 0, 1 and so on.

    `g` is a `torch.Generator` on the CPU, seeded once. Each epoch costs it two permutations, of
    which the second is thrown away (`torch/utils/data/sampler.py`); a permutation is Fisher and
    Yates' with one 32-bit word of MT19937 a swap (`aten/src/ATen/native/TensorFactories.cpp`,
    for sets of less than 2^32 / 20 images). PyTorch 2.13 yields the same.

    Args:
      seed: of the generator, in [0, 2^32).
      count: n, images of the set.

    >>> next(sampler_orders(42, 5)).tolist()
    [2, 4, 3, 0, 1]
    """
    words = np.random.RandomState(seed)  # of all generators this one is seeded as torch's
    left = np.arange(count, 1, -1, dtype=np.uint32)  # images that a swap chooses among
    while True:
        swaps = words.randint(0, 2**32, (2, len(left)), dtype=np.uint32)[0] % left
        order = np.arange(count, dtype=np.int32)
        for place, swap in enumerate(swaps.tolist()):
            order[place], order[place + swap] = order[place + swap], order[place]
        yield order
