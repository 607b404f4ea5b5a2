"""Every kind of architecture against torch's own, in float64, from the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import ARCHS, CLASSES, SIDES, assert_near, ours, parameter

from delt_jax.models import registry, torch_weights

torch = pytest.importorskip("torch")

# Of 60 million weights and more, which take long to draw.
LARGE = {"resnet152", "wide_resnet50_2", "alexnet", "vgg11", "vgg11_bn", "vit_b_16"}

import torch_networks  # noqa: E402 (needs torch)


@pytest.mark.parametrize("arch", ARCHS)
def test_agrees_with_torch(arch, torchvision):
    mine, theirs = ours(arch), torch_networks.theirs(arch, torchvision)
    assert mine.logits.dtype == np.float64
    assert_near(mine.logits, theirs.logits)
    assert_near(mine.gradient, theirs.gradient)
    assert list(mine.means) == list(theirs.means)
    for name, mean in theirs.means.items():
        assert_near(mine.means[name], mean, name)
        assert_near(mine.variances[name], theirs.variances[name], name)
    assert_near(mine.train_logits, theirs.train_logits)
    assert mine.running.keys() == theirs.running.keys()
    for key, value in theirs.running.items():
        assert_near(mine.running[key], value, key)


@pytest.mark.parametrize(
    "arch", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in SIDES]
)
def test_import_and_export_are_inverse_to_the_bit(arch, torchvision):
    torch.manual_seed(0)
    expected = torch_networks.build(arch, torchvision).state_dict()
    state = {key: tensor.numpy() for key, tensor in expected.items()}
    module = registry.create(arch, CLASSES, SIDES[arch])
    exported = torch_weights.to_state_dict(
        torch_weights.from_state_dict(module, SIDES[arch], state)
    )
    assert exported.keys() == state.keys()
    for key, value in exported.items():
        assert value.dtype == state[key].dtype, key
        np.testing.assert_array_equal(value, state[key], err_msg=key)


# Their initialisers are those of a sibling that is here.
SIBLINGS = {"resnet34", "resnet50_small", "resnet101", "resnet152", "wide_resnet50_2", "vgg11"}


@pytest.mark.parametrize("arch", [parameter(arch) for arch in SIDES if arch not in SIBLINGS])
def test_starts_as_torch_does(arch, torchvision):
    torch.manual_seed(0)
    model = torch_networks.build(arch, torchvision)
    expected = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    module = registry.create(arch, CLASSES, SIDES[arch])
    init = jax.jit(module.init)
    images = jnp.zeros((1, SIDES[arch], SIDES[arch], 3))
    state = torch_weights.to_state_dict(init(jax.random.key(0), images))
    assert state.keys() == expected.keys()
    for key, value in state.items():
        wanted = expected[key]
        if np.ptp(wanted) == 0:  # constants
            np.testing.assert_array_equal(value, wanted, err_msg=key)
            continue
        if value.size < 100:  # too few to tell a distribution
            continue
        deviation = wanted.std()
        assert abs(value.mean() - wanted.mean()) <= 8 * deviation / value.size**0.5, key
        # Two estimates from n normal values differ by 1 / sqrt(n): MobileNets have n = 144.
        tolerance = max(0.2, 4 / value.size**0.5)
        assert value.std() == pytest.approx(deviation, rel=tolerance), key
        # A uniform distribution is told from a normal one by its 99 % quantile (1.71 : 2.58).
        if value.size >= 500:
            quantiles = [np.quantile(np.abs(array), 0.99) for array in (value, wanted)]
            assert quantiles[0] == pytest.approx(quantiles[1], rel=0.2), key
