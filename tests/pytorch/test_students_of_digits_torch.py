"""ConvNet-3 in PyTorch learns exported digits from their stored labels, in both layouts."""

import numpy as np
import pytest
from digits_set import MEAN, NAMES, PER_CLASS, SIZE, STD, write_digits
from fkd_loader import fkd_batches
from labelled_run import files_of
from tiny_run import make_config

import delt_jax
from delt_jax.core.augment.stored_views import show
from delt_jax.export import formats
from delt_jax.models.network import save_network
from delt_jax.runtime.workdir import WorkDir
from delt_jax.stages import relabel

torch = pytest.importorskip("torch")

from delt_jax.torch import DistilledSet  # noqa: E402
from delt_jax.torch import __main__ as student  # noqa: E402

BATCH, EPOCHS, IMAGES = 8, 6, PER_CLASS * len(NAMES)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run on digits with stored labels; its images, its labels and its exports by format."""
    folder = tmp_path_factory.mktemp("digits")
    workdir = WorkDir(folder / "run")
    images, labels = write_digits(workdir.distilled, format="png")
    train = delt_jax.Images(images, labels, NAMES, name="colours")
    statistics = "/".join(",".join(map(str, channels)) for channels in (MEAN, STD))
    training = {"epochs": 12, "batch_size": 8, "warmup_epochs": 0.0, "flip": False, "pad": 1}
    teacher = delt_jax.train_teacher(
        train, train, arch="conv3_w32", statistics=statistics, **training
    )
    assert teacher.top1 == 100
    save_network(teacher, workdir.teacher)
    splits = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "digits.npz", **splits, class_names=NAMES)
    config = make_config(folder)
    config.ipc = PER_CLASS
    config.data.source, config.data.image_size = str(folder / "digits.npz"), SIZE
    config.evaluate.labels = ("stored",)
    config.evaluate.epochs, config.evaluate.batch_size = EPOCHS, BATCH
    relabel.run(config, workdir)
    folders = formats.export(workdir.path, folder / "out", ["labels", "fkd"], {})
    return workdir, images, folders


@pytest.mark.slow
def test_from_the_compact_layout(exported):
    workdir, images, folders = exported
    data = DistilledSet(folders["labels"], folders["labels"] / "labels")
    files = files_of(workdir)
    for epoch in range(EPOCHS):
        _, labels = files.read(epoch)
        pixels = np.asarray(show(images, labels.views, np.arange(IMAGES)))
        expected = (pixels - np.float32(MEAN)) / np.float32(STD)
        data.set_epoch(epoch)
        shown, logits = map(torch.stack, zip(*(data[i] for i in range(IMAGES)), strict=True))
        np.testing.assert_allclose(shown.permute(0, 2, 3, 1), expected, atol=4e-6)
        np.testing.assert_array_equal(logits, labels.logits.astype(np.float32))
    torch.manual_seed(0)
    model = student.convnet(len(NAMES), SIZE)
    losses = student.train(model, data, epochs=2 * EPOCHS, batch_size=BATCH)
    assert losses[-1] < losses[0] / 3
    assert learned(model, images) > 75


@pytest.mark.slow
def test_from_fkd(exported, torchvision):
    _, images, folders = exported
    torch.manual_seed(0)
    model = student.convnet(len(NAMES), SIZE)
    optimizer, losses = torch.optim.AdamW(model.parameters(), 1e-3), []
    model.train()
    batches = fkd_batches(folders["fkd"], torchvision, SIZE, BATCH, EPOCHS)
    for *_, shown, _, (*_, logits) in batches:
        target = torch.nn.functional.log_softmax(logits.float() / 20, dim=1)
        mine = torch.nn.functional.log_softmax(model(normalised(shown)) / 20, dim=1)
        loss = torch.nn.functional.kl_div(mine, target, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == EPOCHS * IMAGES / BATCH
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) / 2
    assert learned(model, images) > 50  # after 18 steps; three classes


def normalised(shown):
    return (shown - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def learned(model, images):
    """Percent of the whole images that a student takes for their class."""
    shown = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        right = model.eval()(normalised(shown)).argmax(1).numpy() == np.arange(IMAGES) // PER_CLASS
    return 100 * right.mean()
