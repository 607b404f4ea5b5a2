"""Orders that PyTorch's sampler draws, beside PyTorch's own."""

import itertools

import pytest

from delt_jax.core.torch_order import sampler_orders

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 2, 100, 3001])
def test_orders_are_those_of_torch(seed, count):
    generator = torch.Generator()
    generator.manual_seed(seed)
    sampler = torch.utils.data.RandomSampler(range(count), generator=generator)
    for order in itertools.islice(sampler_orders(seed, count), 3):
        assert order.tolist() == list(sampler)
