"""Their side: the right networks, and a timer that sees every step. Their code is not needed."""

import types

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from delt_jax.errors import InputError  # noqa: E402
from delt_jax.models import registry, torch_weights  # noqa: E402


@pytest.fixture
def authors(torchvision):
    del torchvision  # imported
    from benchmarks import authors

    return authors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "size"), [("resnet18", 64), ("resnet18_small", 32), ("cifar_resnet20", 32)]
)
def test_both_sides_run_the_same_network(authors, arch, size):
    module = registry.create(arch, 7, size)
    variables = registry.initialise(module, size, jax.random.key(0))
    model = authors.network(arch, torch_weights.to_state_dict(variables)).eval()
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    ours = module.apply(variables, images, train=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_network_that_is_not_there_is_named(authors):
    with pytest.raises(InputError, match="--arch vgg11: expected cifar_resnet20 or one of"):
        authors.network("vgg11", {})


def test_a_folder_that_is_no_checkout_is_named(authors, tmp_path):
    with pytest.raises(InputError, match=r"no recover/recover.py there; expected a clone"):
        authors.load(tmp_path)


def test_every_step_of_their_recovery_is_timed(authors):
    calls = []

    def get_images(args, inputs, targets, model, hooks, class_iterations, indices):
        calls.append((args.iteration, args.round_iterations, args.use_early_late, len(hooks)))
        for _ in range(args.iteration):
            recovery.clip(inputs)

    recovery = types.SimpleNamespace(
        BNFeatureHook=lambda module: module,
        get_mean_std=lambda args: (np.zeros(3), np.ones(3)),
        clip=lambda image, **_: image,
        get_images=get_images,
    )
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    run = authors.recovery_timer(recovery, model, np.zeros((2, 4, 4, 3)), np.array([0, 1]), 1)
    assert len(run(3, 5, True)) == 15
    assert len(run(1, 4, False)) == 4
    assert calls == [(15, 5, True, 1), (4, 0, False, 1)]
