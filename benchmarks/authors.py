"""The authors' own PyTorch code, run from a checkout and timed; none of it is here.

Their scripts ask for a GPU, parse the command line when imported and log to a service. What stands
in the way is replaced around their code, not in it: without a GPU `.cuda()` and `.to("cuda")`
return what they are called on; the service is an empty module.

On a GPU the code runs there as published: float32, convolutions in TF32 (torch's default), matrix
products not; cuDNN searches for its fastest algorithms in student training only.
"""

import argparse
import contextlib
import importlib
import io
import pathlib
import pickle
import sys
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.torchvision_import import import_torchvision
from delt_jax.errors import InputError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CifarBlock(torch.nn.Module):
    """Basic block with He et al.'s option A shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(channels)
        self.stride, self.pad = stride, (channels - channels_in) // 2

    def forward(self, x):
        shortcut = x
        if self.pad:
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = torch.nn.functional.pad(shortcut, (0, 0, 0, 0, self.pad, self.pad))
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


def _stage(channels_in: int, channels: int, stride: int) -> torch.nn.Sequential:
    rest = [CifarBlock(channels, channels, 1) for _ in range(2)]
    return torch.nn.Sequential(CifarBlock(channels_in, channels, stride), *rest)


class CifarResNet20(torch.nn.Module):
    """ResNet-20 with the keys of the weights that delt_jax's `cifar_resnet20` reads."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1)
        self.layer2 = _stage(16, 32, 2)
        self.layer3 = _stage(32, 64, 2)
        self.linear = torch.nn.Linear(64, num_classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def network(arch: str, state_dict: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """The network that their scripts would build, with the given weights.

    Args:
      arch: `cifar_resnet20`, or a ResNet of torchvision; with `_small` the field's stem for small
        images, as `main_syn` of their recover.py puts it in.
      state_dict: from `delt_jax.models.torch_weights`; BatchNorm's step counters may be absent.

    Raises:
      InputError: where there is no such network here, or the weights are not its.
    """
    name, small = arch.removesuffix("_small"), arch.endswith("_small")
    if arch == "cifar_resnet20":
        model: Any = CifarResNet20(len(state_dict["linear.bias"]))
    elif "resnet" in name and hasattr(models := import_torchvision().models, name):
        model = getattr(models, name)(num_classes=len(state_dict["fc.bias"]))
    else:
        raise InputError(f"--arch {arch}: expected cifar_resnet20 or one of torchvision's ResNets")
    if small:
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
    tensors = {key: torch.tensor(np.asarray(value)) for key, value in state_dict.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    wrong = [key for key in missing if not key.endswith("num_batches_tracked")] + unexpected
    if wrong:
        raise InputError(f"{arch}: these weights are missing or too many: {', '.join(wrong)}")
    return model.to(device())


def device() -> torch.device:
    """Where their code runs: the first GPU, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def load(checkout: pathlib.Path) -> tuple[Any, Any]:
    """Imports `recover/recover.py` and `evaluation/validation/main.py` of a checkout.

    Args:
      checkout: the root of a clone of VILA-Lab/DELT.

    Returns:
      The two modules.
    """
    if not (checkout / "recover" / "recover.py").is_file():
        raise InputError(
            f"--reference {checkout}: no recover/recover.py there; expected a clone of "
            "VILA-Lab/DELT"
        )
    if not torch.cuda.is_available():
        _stay_on_cpu()
    import_torchvision()
    _allow_posterize_to_nothing()
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    argv, sys.argv = sys.argv, sys.argv[:1]
    sys.path[:0] = [str(checkout / "recover"), str(checkout / "evaluation")]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            recovery = importlib.import_module("recover")
            evaluation = importlib.import_module("validation.main")
    finally:
        sys.argv = argv
    return recovery, evaluation


def _stay_on_cpu() -> None:
    to = torch.Tensor.to
    torch.Tensor.to = (
        lambda self, *args, **named: (  # type: ignore[method-assign]
            self if args[:1] == ("cuda",) else to(self, *args, **named)
        )
    )
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]


def _allow_posterize_to_nothing() -> None:
    """Zero bits, which timm asks for at low magnitudes, mean black; Pillow 13 refuses them."""
    posterize = ImageOps.posterize
    ImageOps.posterize = lambda image, bits: (
        posterize(image, bits) if bits else Image.new(image.mode, image.size)
    )


def recovery_timer(
    recovery: Any, model: torch.nn.Module, pixels: np.ndarray, labels: np.ndarray, ipc: int
) -> Callable[[int, int, bool], list[float]]:
    """Prepares their recovery of one class batch.

    Args:
      recovery: their module.
      model: the teacher, where `device` says.
      pixels: initial images in [0, 1], NHWC float, class-major.
      labels: their classes.
      ipc: images per class.

    Returns:
      `run(rounds, round_iterations, early_late)`: seconds of each iteration of one whole recovery.
    """
    model = model.eval().requires_grad_(False)
    hooks = [
        recovery.BNFeatureHook(module)
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    args = argparse.Namespace(
        dataset="cifar10", input_size=pixels.shape[1], ipc=ipc, jitter=0, lr=0.25, r_bn=0.01,
        first_bn_multiplier=10.0, milestone=1.0, easy2hard_mode="cosine", round_lr_reset=False,
        store_best_images=False,
    )  # fmt: skip
    mean, std = recovery.get_mean_std(args)
    initial = torch.tensor((pixels - mean) / std).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor(labels)
    ticks: list[float] = []
    clip = recovery.clip

    def clip_and_note_the_time(*positional, **named):  # it is called once, at the end of each step
        clipped = clip(*positional, **named)
        _wait()  # what comes next reads the loss, and waits too
        ticks.append(time.perf_counter())
        return clipped

    recovery.clip = clip_and_note_the_time

    def run(rounds: int, round_iterations: int, early_late: bool) -> list[float]:
        args.iteration = args.min_iterations = rounds * round_iterations
        args.use_early_late = early_late
        args.round_iterations = round_iterations if early_late else 0
        class_iterations = torch.full((int(targets.max()) + 1,), args.iteration)
        ticks[:] = [time.perf_counter()]
        recovery.get_images(args, initial.clone(), targets, model, hooks, class_iterations, {})
        return np.diff(ticks).tolist()

    return run


def _wait() -> None:
    """Returns when the GPU, where there is one, has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def student_timer(
    evaluation: Any,
    teacher: torch.nn.Module,
    student: torch.nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    randaugment: str,
    workers: int = 0,
) -> Callable[[int], float]:
    """Prepares their student training: their `train`, fed by the loader that their script builds.

    Args:
      evaluation: their module.
      teacher: labels the mixed images.
      student: is trained.
      images: distilled images, uint8 NHWC.
      labels: their classes.
      batch_size: images a step.
      randaugment: timm's name of its settings.
      workers: processes that augment, spawned, as they may not fork beside JAX; 0: this process
        does, which on a CPU costs less than workers that share the cores with the step.

    Returns:
      `run(steps)`: seconds per step, views and soft labels included.
    """
    transforms = importlib.import_module("torchvision.transforms")
    view = transforms.Compose([
        evaluation.rand_augment_transform(
            randaugment, {"translate_const": 117, "img_mean": (124, 116, 104)}
        ),
        transforms.ToTensor(),
        transforms.RandomResizedCrop(images.shape[1], scale=(0.25, 1), antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ])  # fmt: skip
    pictures = [Image.fromarray(image) for image in images]
    optimizer = torch.optim.AdamW(
        evaluation.get_parameters(student), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01
    )
    args = argparse.Namespace(
        optimizer=optimizer, temperature=20, mix_type="cutmix", cutmix=1.0, re_accum_steps=1,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
    )  # fmt: skip
    torch.backends.cudnn.benchmark = True  # as their main_worker sets it
    teacher.eval().requires_grad_(False)
    evaluation.wandb_metrics = {}

    processes: dict[str, Any] = {}
    if workers:
        processes = {"num_workers": workers, "multiprocessing_context": "spawn"}
        processes["persistent_workers"] = True
    loaders: dict[int, Any] = {}  # workers live as long as their loader

    def run(steps: int) -> float:
        if steps not in loaders:
            views = _Views(pictures, labels, view, steps * batch_size)
            loaders[steps] = torch.utils.data.DataLoader(
                views, batch_size, pin_memory=torch.cuda.is_available(), **processes
            )
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.train(0, loaders[steps], teacher, student, args)
        return (time.perf_counter() - start) / steps

    return run


class _Views(torch.utils.data.Dataset):
    """`count` augmented images, taking the pictures in turn."""

    def __init__(self, pictures: list[Image.Image], labels: np.ndarray, view: Any, count: int):
        self.pictures, self.labels, self.view, self.count = pictures, labels, view, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        picture = index % len(self.pictures)
        return self.view(self.pictures[picture]), int(self.labels[picture])

    def __reduce__(self):
        return _in_a_new_process, (pickle.dumps(vars(self)),)


def _in_a_new_process(views: bytes) -> _Views:
    """The views in a worker, which first needs what stands in their way replaced, too."""
    import_torchvision()
    _allow_posterize_to_nothing()
    return _Views(**pickle.loads(views))
