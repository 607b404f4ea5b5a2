"""Every kind of architecture against torch's own, in float64, from the same random weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.models import registry, torch_weights
from delt_jax.models.cifar_resnet import CifarResNet
from delt_jax.models.convnet import ConvNet
from delt_jax.models.resnet import BasicBlock, Bottleneck, ResNet

torch = pytest.importorskip("torch")
F = torch.nn.functional

CLASSES = 3
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


class TorchConvNet(torch.nn.Module):
    def __init__(self, depth: int, side: int):
        super().__init__()
        convs = [torch.nn.Conv2d(128 if i else 3, 128, 3, padding=1) for i in range(depth)]
        norms = [torch.nn.BatchNorm2d(128) for _ in range(depth)]
        self.layers = torch.nn.ModuleDict(
            {"conv": torch.nn.ModuleList(convs), "norm": torch.nn.ModuleList(norms)}
        )
        self.classifier = torch.nn.Linear(128 * (side // 2**depth) ** 2, CLASSES)

    def forward(self, x):
        for conv, norm in zip(self.layers["conv"], self.layers["norm"], strict=True):
            x = F.avg_pool2d(F.relu(norm(conv(x))), 2)
        return self.classifier(x.flatten(1))


class TorchCifarBlock(torch.nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.pad = (outputs - inputs) // 2
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad)))


class TorchCifarResNet(torch.nn.Module):
    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        channels = [16] + [16] * blocks + [32] * blocks + [64] * blocks
        pairs = list(itertools.pairwise(channels))
        for stage in range(3):
            members = pairs[stage * blocks : (stage + 1) * blocks]
            layer = torch.nn.Sequential(*(TorchCifarBlock(*pair) for pair in members))
            setattr(self, f"layer{stage + 1}", layer)
        self.linear = torch.nn.Linear(64, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def torchvision_resnet(torchvision, block: str, blocks: tuple[int, ...], small_images: bool):
    source = torchvision.models.resnet
    model = source.ResNet(getattr(source, block), blocks, num_classes=CLASSES)
    if small_images:
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model


# Shallow where the depth adds nothing; odd sides, so that pooling and strides must drop and pad the
# same rows.
CASES = {
    "convnet": (17, ConvNet(3, CLASSES), lambda tv: TorchConvNet(3, 17)),
    "cifar_resnet": (9, CifarResNet(2, CLASSES), lambda tv: TorchCifarResNet(2)),
    "resnet18": (
        37,
        ResNet(BasicBlock, (2, 2, 2, 2), CLASSES),
        lambda tv: tv.models.resnet18(num_classes=CLASSES),
    ),
    "small_images": (
        9,
        ResNet(BasicBlock, (1, 1, 1, 1), CLASSES, small_images=True),
        lambda tv: torchvision_resnet(tv, "BasicBlock", (1, 1, 1, 1), True),
    ),
    "bottleneck": (
        33,
        ResNet(Bottleneck, (2, 1, 1, 1), CLASSES),
        lambda tv: torchvision_resnet(tv, "Bottleneck", (2, 1, 1, 1), False),
    ),
}


def randomise(model, rng) -> dict[str, np.ndarray]:
    """Fills a torch model with weights and statistics of a healthy size; returns its state_dict."""
    state = {}
    for key, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        if key.endswith("num_batches_tracked"):
            continue
        if key.endswith("running_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0.5 if key.endswith("weight") else 0, 0.1, shape)
        else:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        state[key] = value
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    return state


def record_batch_norm_inputs(model) -> dict[str, tuple]:
    """Mean and biased variance of every BatchNorm's input at the next forward, by module name."""
    seen = {}

    def hook(name):
        def note(module, inputs, output):
            seen[name] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False))

        return note

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            seen[name] = ()  # modules() order, whatever the order of the calls
            module.register_forward_hook(hook(name))
    return seen


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def batch_moments(variables, stats, path):
    """A batch's mean and biased variance from the per-image moments about the running mean."""
    first = at(stats, path)["first"].mean(0)
    second = at(stats, path)["second"].mean(0)
    return at(variables["batch_stats"], path)["mean"] + first, second - first**2


@pytest.mark.parametrize("arch", CASES)
def test_agrees_with_torch(arch, torchvision, x64):
    side, module, build = CASES[arch]
    rng = np.random.default_rng(7)
    model = build(torchvision).double()
    state = randomise(model, rng)
    images = rng.normal(size=(3, 3, side, side))
    cotangent = rng.normal(size=(3, CLASSES))

    variables = torch_weights.from_state_dict(module, side, state)
    order = registry.batch_norm_order(module, side)
    inputs = jnp.asarray(images.transpose(0, 2, 3, 1))

    def objective(inputs):
        logits, out = module.apply(variables, inputs, mutable=["bn_stats"])
        moments = [batch_moments(variables, out["bn_stats"], path) for path in order]
        norms = sum(jnp.linalg.norm(mean) + jnp.linalg.norm(var) for mean, var in moments)
        return jnp.sum(logits * cotangent) + norms, (logits, moments)

    gradient, (logits, moments) = jax.jit(jax.grad(objective, has_aux=True))(inputs)

    model.eval()
    seen = record_batch_norm_inputs(model)
    torch_images = torch.from_numpy(images).requires_grad_()
    torch_logits = model(torch_images)
    norms = sum(mean.norm() + var.norm() for mean, var in seen.values())
    ((torch_logits * torch.from_numpy(cotangent)).sum() + norms).backward()

    assert logits.dtype == jnp.float64
    np.testing.assert_allclose(logits, torch_logits.detach(), **TOLERANCE)
    expected = torch_images.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(gradient, expected, **TOLERANCE)
    assert [".".join(path) for path in order] == list(seen)
    for (mean, var), (torch_mean, torch_var) in zip(moments, seen.values(), strict=True):
        np.testing.assert_allclose(mean, torch_mean.detach(), **TOLERANCE)
        np.testing.assert_allclose(var, torch_var.detach(), **TOLERANCE)

    train = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, updated = train(variables, inputs)
    torch_logits = model.train()(torch_images)
    np.testing.assert_allclose(logits, torch_logits.detach(), **TOLERANCE)
    after = torch_weights.to_state_dict({"params": variables["params"], **updated})
    for key, tensor in model.state_dict().items():
        if "running" in key:
            np.testing.assert_allclose(after[key], tensor, err_msg=key, **TOLERANCE)


@pytest.mark.parametrize("arch", ["convnet", "cifar_resnet", "bottleneck"])
def test_import_and_export_are_inverse_to_the_bit(arch, torchvision):
    side, module, build = CASES[arch]
    state = {key: tensor.numpy() for key, tensor in build(torchvision).state_dict().items()}
    exported = torch_weights.to_state_dict(torch_weights.from_state_dict(module, side, state))
    model = build(torchvision)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in exported.items()}, strict=True)
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, state[key], err_msg=key)


@pytest.mark.parametrize("arch", ["convnet", "small_images"])
def test_starts_as_torch_does(arch, torchvision):
    side, module, build = CASES[arch]
    torch.manual_seed(0)
    expected = {key: tensor.numpy() for key, tensor in build(torchvision).state_dict().items()}
    variables = module.init(jax.random.key(0), jnp.zeros((1, side, side, 3)))
    state = torch_weights.to_state_dict(variables)
    assert state.keys() == expected.keys()
    for key, value in state.items():
        if value.size < 100:  # too few to tell a distribution
            continue
        deviation = expected[key].std()
        assert abs(value.mean() - expected[key].mean()) <= 8 * deviation / value.size**0.5, key
        assert value.std() == pytest.approx(deviation, rel=0.2), key
        # A uniform distribution is told from a normal one by how far it reaches.
        reach = np.abs(expected[key]).max()
        assert np.abs(value).max() == pytest.approx(reach, rel=0.25), key
