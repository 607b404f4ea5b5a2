"""The format `fkd`, read as SRe2L's loader reads it: torch's sampler, Pillow's crops."""

import numpy as np
import pytest
from fkd_loader import fkd_batches, load_batch
from labelled_run import BATCH, EPOCHS, IMAGES, files_of, make_run, source_of
from tiny_run import SIZE

from delt_jax.core.augment.stored_views import show
from delt_jax.export import fkd

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fkd")
    run, images = make_run(folder)
    fkd.write(source_of(run), folder / "out", {})
    return folder / "out", files_of(run), images


def test_nothing_but_epochs_lies_beside_them(exported):
    folder, _, _ = exported
    assert {path.name for path in (folder / "labels").iterdir()} == {
        f"epoch_{epoch}" for epoch in range(EPOCHS)
    }
    assert len(list((folder / "labels" / "epoch_0").iterdir())) == -(-IMAGES // BATCH)


def test_types_are_those_of_their_files(exported):
    coords, flips, permutation, kept, box, logits = load_batch(exported[0], 0, 0)
    assert [t.dtype for t in (coords, flips, permutation, logits)] == [
        *(torch.float32, torch.bool, torch.int64, torch.float16)
    ]
    assert [tuple(t.shape) for t in (coords, flips, permutation, logits)] == [
        *((BATCH, 4), (BATCH,), (BATCH,), (BATCH, 3))
    ]
    assert isinstance(kept, float) and [type(edge) for edge in box] == [int] * 4


def test_a_loader_like_theirs_shows_what_the_teacher_saw(exported, torchvision):
    """To one level of 255: Pillow rounds to bytes after rows and after columns, ours does not."""
    folder, files, images = exported
    mixed = 0
    for epoch, number, rows, shown, classes, (*_, kept, box, logits) in fkd_batches(
        folder, torchvision, SIZE, BATCH, EPOCHS
    ):
        order, labels = files.read(epoch)
        expected = np.asarray(show(images, labels.views, np.arange(IMAGES)))
        np.testing.assert_array_equal(rows, order[number * BATCH :][:BATCH])
        assert classes == [row // 3 for row in rows]
        difference = np.abs(shown.permute(0, 2, 3, 1).numpy() - expected[rows])
        assert difference.max() <= 1.001 / 255
        np.testing.assert_array_equal(logits.numpy(), labels.logits[rows])
        x1, y1, x2, y2 = box
        assert kept == 1 - (x2 - x1) * (y2 - y1) / SIZE**2
        mixed += kept < 1
    assert mixed > 3
