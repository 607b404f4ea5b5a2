"""One network, saved as public training code saves it: every layout gives the same logits."""

import argparse
import functools
from collections import OrderedDict

import jax
import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.models import torch_weights
from delt_jax.models.convnet import ConvNet
from delt_jax.models.resnet import BasicBlock, ResNet

torch = pytest.importorskip("torch")
nn = torch.nn

SIDE, CLASSES = 8, 3


class TorchConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        convs = [nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 8)]
        norms = [nn.BatchNorm2d(8) for _ in convs]
        self.layers = nn.ModuleDict({"conv": nn.ModuleList(convs), "norm": nn.ModuleList(norms)})
        self.classifier = nn.Linear(8 * 2 * 2, CLASSES)

    def forward(self, x):
        for conv, norm in zip(self.layers["conv"], self.layers["norm"], strict=True):
            x = nn.functional.avg_pool2d(nn.functional.relu(norm(conv(x))), 2)
        return self.classifier(x.flatten(1))


class TorchBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride > 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(nn.functional.relu(self.bn1(self.conv1(x)))))
        return nn.functional.relu(y + self.downsample(x))


class TorchResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(TorchBlock(64, 64, 1))
        self.layer2 = nn.Sequential(TorchBlock(64, 128, 2))
        self.fc = nn.Linear(128, CLASSES)

    def forward(self, x):
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


CONVNET = ConvNet(2, CLASSES, 8)
RESNET = ResNet(BasicBlock, (1, 1), CLASSES, small_images=True)
IMAGES = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


@functools.cache
def saved(network):
    """A network's state_dict, and its logits of `IMAGES`."""
    torch.manual_seed(0)
    model = network()
    for name, tensor in model.state_dict().items():
        if "running" in name:
            tensor += torch.rand(tensor.shape)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()))
    return model.state_dict(), logits.numpy()


@functools.cache
def apply(module):
    return jax.jit(module.apply)


def assert_same_logits(module, network, path, key=""):
    coverage = torch_weights.coverage_of(module, SIDE)
    state = torch_weights.read_state_dict(path, key, coverage)
    variables = torch_weights.from_state_dict(module, SIDE, state, source=path.name)
    logits = apply(module)(variables, IMAGES)
    np.testing.assert_allclose(logits, saved(network)[1], rtol=1e-4, atol=1e-5)


def prefixed(prefix, state):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def renamed(state, *pairs):
    named = {}
    for key, value in state.items():
        for old, new in pairs:
            key = key.replace(old, new)
        named[key] = value
    return named


def averaged(state):
    """Another set of weights of the same network."""
    return {key: value * 0 for key, value in state.items()}


def optimizer():
    weight = nn.Parameter(torch.ones(2))
    made = torch.optim.Adam([weight])
    weight.grad = torch.ones(2)
    made.step()
    return made.state_dict()


class HistoryBuffer:
    """Stands for mmengine's, whose files name it."""

    def __init__(self):
        self.max_length, self._log_history = 3, np.arange(3.0)


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"


def every_other(state, prefix):
    """Half of the keys with a prefix, as where a part of a network is wrapped."""
    items = enumerate(state.items())
    return {(prefix + key if place % 2 else key): value for place, (key, value) in items}


LAYOUTS = {
    "bare": lambda s: s,
    "kuangliu/pytorch-cifar": lambda s: {"net": prefixed("module.", s), "acc": 93.1, "epoch": 199},
    "PyTorch's tutorial": lambda s: {
        "epoch": 3,
        "model_state_dict": s,
        "optimizer_state_dict": optimizer(),
        "loss": torch.tensor(0.1),
    },
    "PyTorch's ImageNet example": lambda s: {
        "epoch": 90,
        "arch": "resnet18",
        "state_dict": prefixed("module.", s),
        "best_acc1": torch.tensor(69.8),
        "optimizer": optimizer(),
        "scheduler": {"base_lrs": [0.1], "last_epoch": 90},
    },
    "timm's saver": lambda s: {
        "epoch": 1,
        "arch": "resnet18",
        "state_dict": s,
        "state_dict_ema": averaged(s),
        "optimizer": optimizer(),
        "args": argparse.Namespace(lr=0.1),
        "amp_scaler": {"scale": 65536.0},
        "version": 2,
        "metric": np.float64(91.0),
    },
    "timm's saver, the average alone": lambda s: {"state_dict_ema": s, "epoch": 1},
    "torchvision's references": lambda s: {
        "model": s,
        "optimizer": optimizer(),
        "lr_scheduler": {"last_epoch": 1, "_last_lr": [0.1]},
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.", averaged(s))},
        "args": argparse.Namespace(lr=0.1),
    },
    "an average alone, as torch keeps it": lambda s: {
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.", s)}
    },
    "pycls": lambda s: {"epoch": 1, "model_state": s, "optimizer_state": optimizer(), "cfg": "x"},
    "DINO": lambda s: {
        "student": prefixed("module.", s),
        "teacher": averaged(s),
        "optimizer": optimizer(),
        "dino_loss": {"center": torch.zeros(1, 4)},
        "epoch": 2,
    },
    "Lightning, model.": lambda s: {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.0",
        "state_dict": prefixed("model.", s) | {"criterion.weight": torch.ones(3)},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [optimizer()],
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning, net.": lambda s: {"state_dict": prefixed("net.", s)},
    "Lightning, backbone.": lambda s: {"state_dict": prefixed("backbone.", s)},
    "Lightning, the module itself": lambda s: {
        "state_dict": {**s, "loss_fn.weight": torch.ones(3)}
    },
    "Lightning, compiled": lambda s: {"state_dict": prefixed("model._orig_mod.", s)},
    "Lightning, DDP inside": lambda s: {"state_dict": prefixed("model.module.", s)},
    "FSDP": lambda s: prefixed("_fsdp_wrapped_module.", s),
    "FSDP of the layers": lambda s: renamed(
        s, ("layers.", "layers._fsdp_wrapped_module."), ("conv.", "conv._fsdp_wrapped_module.")
    ),
    "DDP of a compiled network": lambda s: prefixed("module._orig_mod.", s),
    "a compiled DDP": lambda s: prefixed("_orig_mod.module.", s),
    "activation checkpointing": lambda s: renamed(
        s, ("conv.1.", "conv.1._checkpoint_wrapped_module.")
    ),
    "Fabric": lambda s: {"model": prefixed("_forward_module.", s)},
    "DeepSpeed": lambda s: {"module": s, "global_steps": 3, "ds_version": "0.14"},
    "mixed prefixes": lambda s: {"state_dict": every_other(s, "module.")},
    "mmpretrain": lambda s: {
        "meta": {"epoch": 1, "dataset_meta": {"classes": ["a", "b", "c"]}},
        "state_dict": renamed(
            prefixed("backbone.", s), ("backbone.classifier.", "head.classifier.")
        ),
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer()}},
    },
    "a body and a head, each saved": lambda s: {
        "backbone": {key: value for key, value in s.items() if "classifier" not in key},
        "head": renamed({k: v for k, v in s.items() if "classifier" in k}, ("classifier.", "fc.")),
    },
    "a head of another name": lambda s: {"state_dict": renamed(s, ("classifier.", "head.1."))},
    "counted by thop": lambda s: {
        **s,
        "total_ops": torch.ones(1),
        "layers.total_ops": torch.ones(1),
    },
    "NumPy numbers beside": lambda s: {"model": s, "best": np.float32(1), "all": np.arange(4)},
    "DatasetCondensation": lambda s: renamed(
        s,
        ("layers.conv.0", "features.0"),
        ("layers.norm.0", "features.1"),
        ("layers.conv.1", "features.4"),
        ("layers.norm.1", "features.5"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_logits(layout, tmp_path, monkeypatch):
    module = type(torch)("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(__import__("sys").modules, name, module)
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](saved(TorchConvNet)[0]), path)
    assert_same_logits(CONVNET, TorchConvNet, path)


RESNETS = {
    "torchvision": lambda s: s,
    "kuangliu/pytorch-cifar": lambda s: {
        "net": renamed(prefixed("module.", s), ("downsample", "shortcut"), ("fc.", "linear.")),
        "acc": 95.0,
        "epoch": 199,
    },
    "weiaicunzai/pytorch-cifar100": lambda s: renamed(
        s,
        *(
            (f"layer{n}.0.{old}.", f"conv{n + 1}_x.0.residual_function.{new}.")
            for n in (1, 2)
            for new, old in ((0, "conv1"), (1, "bn1"), (3, "conv2"), (4, "bn2"))
        ),
        ("layer2.0.downsample", "conv3_x.0.shortcut"),
        ("conv1.weight", "conv1.0.weight"),
        ("bn1.", "conv1.1."),
    ),
    "DatasetCondensation": lambda s: renamed(s, ("downsample", "shortcut"), ("fc.", "classifier.")),
    "mmpretrain": lambda s: {
        "state_dict": renamed(prefixed("backbone.", s), ("backbone.fc.", "head.fc."))
    },
    "a head after dropout": lambda s: renamed(s, ("fc.", "fc.1.")),
}


@pytest.mark.parametrize("layout", RESNETS)
def test_every_resnet_gives_the_same_logits(layout, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(RESNETS[layout](saved(TorchResNet)[0]), path)
    assert_same_logits(RESNET, TorchResNet, path)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (lambda s: {"state_dict": averaged(s), "state_dict_ema": s}, "state_dict_ema"),
        (lambda s: {"student": averaged(s), "teacher": prefixed("module.", s)}, "teacher"),
        (lambda s: prefixed("model.", averaged(s)) | prefixed("ema_model.", s), "ema_model"),
        (
            lambda s: {"state_dict": prefixed("model.", averaged(s)) | prefixed("ema.module.", s)},
            "state_dict.ema",
        ),
        (lambda s: {"a": {"net": s}, "b": {"net": averaged(s)}}, "a"),
        (lambda s: {"a": {"net": s}, "b": {"net": averaged(s)}}, "a.net"),
    ],
)
def test_a_key_names_one_of_several_sets(content, key, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content(saved(TorchConvNet)[0]), path)
    assert_same_logits(CONVNET, TorchConvNet, path, key)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda s: {"state_dict": prefixed("model.", s) | prefixed("net.", s)},
            r"under several prefixes, 'model', 'net'; name one as weights_key",
        ),
        (lambda s: {"one": s, "two": s}, "several sets of weights: one, two; name one"),
    ],
)
def test_what_could_be_either_is_refused(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content(saved(TorchConvNet)[0]), path)
    with pytest.raises(InputError, match=message):
        assert_same_logits(CONVNET, TorchConvNet, path)


def test_a_key_that_leads_nowhere_is_answered_with_those_there_are(tmp_path):
    path = tmp_path / "weights.pth"
    state = saved(TorchConvNet)[0]
    torch.save({"state_dict": state, "state_dict_ema": state}, path)
    message = "no weights under weights_key = 'ema'; there are state_dict, state_dict_ema"
    with pytest.raises(InputError, match=message):
        torch_weights.read_state_dict(path, "ema")


def test_the_log_says_which_weights_were_taken(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS["timm's saver"](saved(TorchConvNet)[0]), path)
    assert_same_logits(CONVNET, TorchConvNet, path)
    assert (
        "weights.pth: took the weights under state_dict; there is also state_dict_ema"
        in caplog.text
    )


def test_the_log_counts_what_is_left_out(tmp_path, caplog):
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS["Lightning, model."](saved(TorchConvNet)[0]), path)
    assert_same_logits(CONVNET, TorchConvNet, path)
    assert "left out tensors beside those of the network, 1: criterion.weight" in caplog.text


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_deeper_network_is_not_taken_for_a_shallower_one(prefix, tmp_path):
    deeper = {k.replace("layer1.0.", "layer1.1."): v for k, v in saved(TorchResNet)[0].items()}
    path = tmp_path / "weights.pth"
    torch.save(prefixed(prefix, {**deeper, **saved(TorchResNet)[0]}), path)
    with pytest.raises(InputError, match=r"unexpected layer1\.1\.conv1"):
        assert_same_logits(RESNET, TorchResNet, path)
