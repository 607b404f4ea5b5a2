"""Trains a student on distilled images in PyTorch, and tests it.

    python -m delt_jax.torch --images=runs/x/distilled --labels=runs/x/labels --test=FOLDER

With labels it learns what the teacher said of the stored views; without, the classes, from random
crops. The test set is a folder with a folder for each class, called as the set's classes or by
their numbers, or an .npz with x_test (uint8 [n, h, w, 3], grey [n, h, w]), y_test and, if it likes,
class_names.
"""

import argparse
import math
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from delt_jax.data.arrays import open_npz
from delt_jax.torch.classes import match_classes
from delt_jax.torch.dataset import DistilledSet, find_images, show


def convnet(classes: int, size: int, depth: int = 3, width: int = 128) -> nn.Module:
    """The field's ConvNet: blocks of convolution, BatchNorm, ReLU and average pooling."""
    layers: list[nn.Module] = []
    for block in range(depth):
        layers += [nn.Conv2d(width if block else 3, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.AvgPool2d(2)]
        size //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * size**2, classes))


def resnet18(classes: int, size: int) -> nn.Module:
    """torchvision's; images of less than 128 pixels get the field's small stem."""
    from torchvision.models import resnet18 as full  # needed for this student alone

    model = full(num_classes=classes)
    if size < 128:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return model


STUDENTS = {"conv3": convnet, "resnet18": resnet18}


def random_view(pixels: torch.Tensor) -> torch.Tensor:
    """A random crop of at least a quarter of the area, resized; mirrored half the time."""
    size = pixels.shape[-1]
    side = round(size * math.sqrt(float(torch.empty(()).uniform_(0.25, 1))))
    top, left = torch.randint(0, size - side + 1, (2,)).tolist()
    edges = (left + side, left) if torch.rand(()) < 0.5 else (left, left + side)
    return show(pixels * 255, (top, edges[0], top + side, edges[1]))


def train(
    model: nn.Module,
    data: DistilledSet,
    *,
    epochs: int,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    temperature: float | None = None,
    workers: int = 0,
    device: str = "cpu",
) -> list[float]:
    """Trains in place with AdamW, the rate falling by a cosine to its half.

    Args:
      model: the student.
      data: with labels, or without.
      epochs: passes over the set; stored epochs are gone through again and again.
      batch_size: images of a step.
      learning_rate: in the first epoch.
      temperature: of the teacher's and the student's logits; None: the run's.
      workers: processes that read.
      device: of the model.

    Returns:
      The mean loss of each epoch.
    """
    heat = temperature or data.temperature
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    loader = DataLoader(
        data, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    model.train()
    losses = []
    for epoch in (bar := tqdm(range(epochs), unit="epoch", mininterval=1)):
        data.set_epoch(epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / (2 * epochs)))
        total = 0.0
        for images, labels in loader:
            logits, labels = model(images.to(device)), labels.to(device)
            if data.epochs:
                target = F.log_softmax(labels / heat, dim=1)
                mine = F.log_softmax(logits / heat, dim=1)
                loss = F.kl_div(mine, target, reduction="batchmean", log_target=True)
            else:
                loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        losses.append(total / len(data))
        bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
    return losses


class TestSet(Dataset):
    """A test set as the students see it: resized, its centre cut out, normalised."""

    def __init__(self, path: str, data: DistilledSet):
        expected: Sequence[str] = data.class_names
        if path.lower().endswith(".npz"):
            self._pixels = source = open_npz(pathlib.Path(path), "test", None)
            labels = source.labels.tolist()
            found = {label: source.class_names[label] for label in sorted(set(labels))}
            if all(name.isdecimal() for name in source.class_names):  # labels without names
                expected = [str(number) for number in range(len(data.class_names))]
        else:
            self._files, _ = find_images(path)
            for file in self._files:  # rather now than after the last epoch
                file.check()
            self._pixels, labels = None, [file.label for file in self._files]
            found = {file.label: file.class_name for file in self._files}
        classes = match_classes(found, expected, path)
        self._labels = [classes[label] for label in labels]
        self._size, self._mean, self._std = data.images.shape[-1], data.mean, data.std

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Normalised pixels, float32 `[3, s, s]`, and the class."""
        pixels = self._files[index].read() if self._pixels is None else self._pixels[index]
        image, size = Image.fromarray(pixels), self._size
        short = max(size // 7 * 8, size)  # the published share: 256 for 224
        sides = [int(short * side / min(image.size)) for side in image.size]
        image = image.resize(sides, Image.Resampling.BILINEAR)
        left, top = (round((side - size) / 2) for side in sides)
        image = image.crop((left, top, left + size, top + size))
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        return (values - self._mean) / self._std, int(self._labels[index])


@torch.no_grad()
def accuracy(model: nn.Module, test: Dataset, device: str = "cpu", workers: int = 0) -> float:
    """Percent of a test set that a model takes for its class."""
    model.eval()
    right = [
        model(images.to(device)).argmax(dim=1).cpu() == targets
        for images, targets in DataLoader(test, 256, num_workers=workers)
    ]
    return 100 * float(torch.cat(right).float().mean())


def _path(text: str) -> str:
    """A path whose `~` no shell has expanded, as in `--images=~/x`."""
    try:
        return str(pathlib.Path(text).expanduser())
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such user") from None


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="delt_jax.torch", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    flag = parser.add_argument
    flag(
        "--images",
        type=_path,
        required=True,
        help="distilled/ of a run, an export, or an ImageFolder",
    )
    flag("--labels", type=_path, help="labels/ of a run or of an export; without: classes")
    flag("--test", type=_path, required=True, help="a folder of classes, or an .npz")
    flag("--student", choices=STUDENTS, default="conv3")
    flag("--epochs", type=int, default=300)
    flag("--batch-size", type=int, default=50)
    flag("--learning-rate", type=float, default=1e-3)
    flag("--temperature", type=float, help="default: the run's")
    flag("--workers", type=int, default=0)
    flag("--seed", type=int, default=0)
    flag("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    torch.manual_seed(args.seed)
    try:
        data = DistilledSet(
            args.images, args.labels, transform=None if args.labels else random_view
        )
        test = TestSet(args.test, data)
    except ValueError as error:
        sys.exit(f"error: {error}")
    size, classes = data.images.shape[-1], len(data.class_names)
    model = STUDENTS[args.student](classes, size).to(args.device)
    options = {name: getattr(args, name) for name in ("learning_rate", "temperature", "workers")}
    losses = train(
        model, data, epochs=args.epochs, batch_size=args.batch_size, device=args.device, **options
    )
    kind = f"{data.epochs} stored epochs" if data.epochs else "classes"
    print(
        f"{args.student}: {len(data)} images, {kind}, {args.epochs} epochs, loss {losses[-1]:.4f}, "
        f"top-1 {accuracy(model, test, args.device, args.workers):.2f} %"
    )


if __name__ == "__main__":
    main()
