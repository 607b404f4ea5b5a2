"""torch's own networks, with the recipe's weights: the other side of the parity tests."""

import itertools

import numpy as np
import pytest
import torch
from parity import CLASSES, SIDES, Outputs, draw_inputs, seed
from recipes import draw_state
from torch_mobilenet_small import TorchMobileNetV2Small

F = torch.nn.functional


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
        for module in self.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                torch.nn.init.kaiming_normal_(module.weight)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def build(arch: str, torchvision) -> torch.nn.Module:
    """torch's network of that name with `CLASSES` classes, for images of side `SIDES[arch]`."""
    if arch.startswith("conv") and arch[4:].isdigit():
        return TorchConvNet(int(arch[4:]), SIDES[arch])
    if arch.startswith("cifar_resnet"):
        return TorchCifarResNet((int(arch.removeprefix("cifar_resnet")) - 2) // 6)
    if arch.removesuffix("_small") != arch and "resnet" in arch:
        model = torchvision.models.get_model(arch.removesuffix("_small"), num_classes=CLASSES)
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
        return model
    if arch == "tf_efficientnet_lite0":
        timm = pytest.importorskip("timm")
        return timm.create_model(arch, num_classes=CLASSES)
    if arch == "mobilenet_v2_small":
        return TorchMobileNetV2Small(CLASSES)
    if arch == "deit_tiny":
        timm = pytest.importorskip("timm")
        name = "deit_tiny_patch16_224"
        return timm.create_model(name, num_classes=CLASSES, img_size=SIDES[arch])
    if arch.startswith("vit_"):
        return torchvision.models.get_model(arch, num_classes=CLASSES, image_size=SIDES[arch])
    return torchvision.models.get_model(arch, num_classes=CLASSES)


def without_dropout(model: torch.nn.Module) -> torch.nn.Module:
    """Dropout, attention's included, and stochastic depth switched off."""
    for module in model.modules():
        for name in ("p", "dropout", "drop_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def fill(model: torch.nn.Module, arch: str) -> None:
    """Gives a torch network the weights that the recipe draws for `arch`."""
    state = model.state_dict()  # not a plain dict: torchvision's MNASNet wants its metadata
    drawn = draw_state({key: tuple(tensor.shape) for key, tensor in state.items()}, seed(arch))
    state.update({key: torch.from_numpy(value) for key, value in drawn.items()})
    model.load_state_dict(state)


def record_batch_norm_inputs(model: torch.nn.Module) -> dict[str, tuple]:
    """Mean and biased variance of each BatchNorm's input at the next forward, in forward order."""
    seen: dict[str, tuple] = {}

    def hook(name):
        def note(module, inputs, output):
            seen[name] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False))

        return note

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(hook(name))
    return seen


def theirs(arch: str, torchvision) -> Outputs:
    """What `parity.ours` computes, by torch."""
    model = without_dropout(build(arch, torchvision)).double()
    fill(model, arch)
    images, cotangent = draw_inputs(arch)

    model.eval()
    seen = record_batch_norm_inputs(model)
    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).requires_grad_()
    logits = model(inputs)
    moments = dict(seen)
    norms = sum(mean.norm() + var.norm() for mean, var in moments.values())
    ((logits * torch.from_numpy(cotangent)).sum() + norms).backward()
    with torch.no_grad():
        train_logits = model.train()(inputs)
    assert inputs.grad is not None
    return Outputs(
        logits.detach().numpy(),
        inputs.grad.numpy().transpose(0, 2, 3, 1),
        {name: mean.detach().numpy() for name, (mean, _) in moments.items()},
        {name: variance.detach().numpy() for name, (_, variance) in moments.items()},
        train_logits.numpy(),
        {key: value.numpy() for key, value in model.state_dict().items() if "running" in key},
    )
