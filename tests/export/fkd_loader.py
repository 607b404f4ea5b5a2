"""A loader of the format `fkd` like SRe2L's: torch's sampler, Pillow's crops, their file names."""

import pytest

torch = pytest.importorskip("torch")


def load_batch(folder, epoch, number):
    """Coordinates, flips, permutation, lambda, box and logits of a batch."""
    path = folder / "labels" / f"epoch_{epoch}" / f"batch_{number}.tar"
    return torch.load(path, weights_only=True)


def fkd_batches(folder, torchvision, size, batch_size, epochs):
    """Yields (epoch, batch, images' numbers, mixed pixels in [0, 1], classes, what its file holds).

    Args:
      folder: of the export.
      torchvision: the package.
      size: S of the images.
      batch_size: with which the labels were stored.
      epochs: how many are read, from the first.
    """
    from torchvision.transforms import functional

    dataset = torchvision.datasets.ImageFolder(folder / "train")
    generator = torch.Generator()
    generator.manual_seed(42)
    sampler = torch.utils.data.RandomSampler(dataset, generator=generator)
    for epoch in range(epochs):
        batches = torch.utils.data.BatchSampler(sampler, batch_size, drop_last=False)
        for number, rows in enumerate(batches):
            stored = load_batch(folder, epoch, number)
            coords, flips, permutation, _, (x1, y1, x2, y2), _ = stored
            shown, classes = [], []
            for row, fractions, flip in zip(rows, coords, flips, strict=True):
                image, label = dataset[row]
                edges = [fractions[i].item() * image.size[1 - i % 2] for i in range(4)]
                image = functional.resized_crop(image, *edges, [size, size])
                image = functional.hflip(image) if flip else image
                shown.append(functional.to_tensor(image))
                classes.append(label)
            mixed = torch.stack(shown)
            mixed[:, :, x1:x2, y1:y2] = mixed[permutation, :, x1:x2, y1:y2]
            yield epoch, number, rows, mixed, classes, stored
