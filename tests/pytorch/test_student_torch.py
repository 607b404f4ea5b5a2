"""The example student of the PyTorch side."""

import types
import typing

import numpy as np
import pytest
from labelled_run import make_run
from tiny_run import coloured

torch = pytest.importorskip("torch")

from delt_jax.torch import DistilledSet  # noqa: E402
from delt_jax.torch import __main__ as student  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    workdir, _ = make_run(folder)
    labels = np.arange(30) % 3
    np.savez(folder / "test.npz", x_test=coloured(labels, 5), y_test=labels)
    return workdir, folder / "test.npz"


def test_loss_goes_down_from_stored_labels_and_from_images(run):
    workdir, _ = run
    for labels, transform in ((workdir.labels, None), (None, student.random_view)):
        data = DistilledSet(workdir.distilled, labels, transform=transform)
        torch.manual_seed(0)
        model = student.convnet(3, 8, width=16)
        losses = student.train(model, data, epochs=12, batch_size=3, learning_rate=0.01)
        assert np.isfinite(losses).all() and np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_learns_what_it_is_tested_for(run):
    workdir, test = run
    data = DistilledSet(workdir.distilled, transform=student.random_view)
    torch.manual_seed(0)
    model = student.convnet(3, 8, width=16)
    student.train(model, data, epochs=25, batch_size=3, learning_rate=0.01)
    assert student.accuracy(model, student.TestSet(str(test), data)) > 80


def test_shows_test_images_as_the_students_of_a_run_see_them(run, tmp_path):
    from PIL import Image

    from delt_jax.data.pipeline import centre_crop

    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    for name in ("red", "green", "blue"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    data = DistilledSet(run[0].distilled, mean=(0, 0, 0), std=(1, 1, 1))
    shown, label = student.TestSet(str(tmp_path), data)[1]
    expected = centre_crop(pixels, 8)
    assert label == 1
    np.testing.assert_array_equal((shown * 255).round().permute(1, 2, 0), expected)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1)])
@pytest.mark.parametrize("names", [("x_test", "y_test"), ("test_images", "test_labels")])
def test_grey_archives_are_read_as_in_jax(run, tmp_path, shape, names):
    images = np.arange(256, dtype=np.uint8).reshape(shape)
    labels = np.array([[0], [1], [2], [0]], np.uint8)
    np.savez(tmp_path / "grey.npz", **dict(zip(names, (images, labels), strict=True)))
    (tmp_path / "grey.npz").rename(tmp_path / "GREY.NPZ")
    data = DistilledSet(run[0].distilled, mean=(0, 0, 0), std=(1, 1, 1))
    test = student.TestSet(str(tmp_path / "GREY.NPZ"), data)
    shown, label = test[1]
    assert (len(test), label, tuple(shown.shape)) == (4, 1, (3, 8, 8))
    expected = np.arange(64, 128).reshape(8, 8)
    for channel in shown:
        np.testing.assert_array_equal((channel * 255).round(), expected)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": np.zeros((2, 8, 8), np.float32), "y_test": [0, 1]}, "x_test has dtype float32"),
        ({"x_test": np.zeros((2, 3, 8, 8), np.uint8), "y_test": [0, 1]}, "x_test has shape"),
        ({"x_test": np.zeros((2, 8, 8), np.uint8), "y_test": [0, -1]}, r"y_test\[1\] is -1"),
        ({"x_test": np.zeros((2, 8, 8), np.uint8), "y_test": [0]}, "holds 2 images but y_test 1"),
        ({"y_test": [0]}, "no array 'x_test'"),
    ],
)
def test_an_archive_that_is_not_read_is_refused_before_training(run, tmp_path, arrays, message):
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(SystemExit, match=message):
        student.main(
            [f"--images={run[0].distilled}", f"--test={tmp_path / 'odd.npz'}", "--epochs=1"]
        )


def test_a_test_image_that_is_none_is_refused_before_training(run, tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"version https://git-lfs")
    with pytest.raises(SystemExit, match=r"a/0\.png: no image that can be read"):
        student.main([f"--images={run[0].distilled}", f"--test={tmp_path}", "--epochs=1"])


def test_command(run, capsys):
    workdir, test = run
    where = [f"--images={workdir.distilled}", f"--test={test}"]
    student.main([*where, f"--labels={workdir.labels}", "--epochs=2", "--device=cpu"])
    printed = capsys.readouterr().out
    assert printed.startswith("conv3: 9 images, 3 stored epochs, 2 epochs, loss ")
    assert printed.rstrip().endswith("%")
    with pytest.raises(SystemExit, match=r"error: .*labels\.json: No such file"):
        student.main([*where, f"--labels={workdir.path}"])


def test_too_many_classes_are_named(run, tmp_path):
    np.savez(tmp_path / "test.npz", x_test=coloured(np.zeros(1, int), 5), y_test=[3])
    data = DistilledSet(run[0].distilled)
    with pytest.raises(ValueError, match=r"test\.npz: 4 classes; expected"):
        student.TestSet(str(tmp_path / "test.npz"), data)


def test_small_and_large_resnets(torchvision):
    del torchvision  # it has them
    for size, side in ((32, 3), (128, 7)):
        model = student.resnet18(5, size)
        assert model.conv1.kernel_size == (side, side)
        assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, 5)


def classes_of(tmp_path, names, set_names):
    """The label of the test image in each class folder, for a set of such classes."""
    from PIL import Image

    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    data = types.SimpleNamespace(
        class_names=set_names, images=torch.zeros(1, 3, 8, 8), mean=torch.zeros(()), std=1.0
    )
    test = student.TestSet(str(tmp_path), typing.cast(typing.Any, data))
    labels = dict(zip((file.path.parent.name for file in test._files), test._labels, strict=True))
    return [labels[name] for name in names]


@pytest.mark.parametrize(
    ("names", "set_names", "labels"),
    [
        (["dog", "cat"], ["dog", "cat"], [0, 1]),
        (["cat", "dog"], ["dog", "eel", "cat"], [2, 0]),
        (["cafe\u0301", "b"], ["b", "caf\u00e9"], [1, 0]),
        (["dog", "train"], ["000_train", "001_dog"], [1, 0]),  # an export without its manifest
        (["000_dog", "001_cat"], ["cat", "dog"], [1, 0]),
        (["0", "1", "10", "2"], [f"class {k}" for k in range(11)], [0, 1, 10, 2]),
        (["new001", "new000"], ["dog", "cat"], [1, 0]),
        (["dog", "cat"], ["new000", "new001"], [1, 0]),  # the published code's: folders are sorted
        (["dog", "cat"], ["0", "1"], [1, 0]),
    ],
)
def test_test_folders_are_the_classes_of_their_names(tmp_path, names, set_names, labels):
    assert classes_of(tmp_path, names, set_names) == labels


@pytest.mark.parametrize(
    ("names", "set_names", "message"),
    [
        (["dog", "owl"], ["dog", "cat"], "class 'owl'; expected the distilled set's, by name"),
        (["1", "2"], ["dog", "cat"], "class '1'; expected .* or by number from 0"),
        (["0", "1", "2"], ["dog", "cat"], "3 classes; expected the distilled set's 2"),
        (["dog", "cat", "eel"], ["0", "1"], "3 classes; expected the distilled set's 2"),
        (["a", "b"], ["b", "a", "a"], "class 'a'; expected"),
    ],
)
def test_test_folders_of_other_classes_are_refused(tmp_path, names, set_names, message):
    with pytest.raises(ValueError, match=message) as caught:
        classes_of(tmp_path, names, set_names)
    assert "\n" not in str(caught.value)


def test_class_names_of_an_archive_are_matched(run, tmp_path):
    data = DistilledSet(run[0].distilled)
    arrays = {"x_test": coloured(np.zeros(3, int), 5), "y_test": np.array([[0], [1], [2]])}
    for names, labels in (
        (np.array([b"blue", b"red", b"green"]), [2, 0, 1]),
        (np.array(["0", "1", "2"]), [0, 1, 2]),
    ):
        np.savez(tmp_path / "test.npz", **arrays, class_names=names)
        assert student.TestSet(str(tmp_path / "test.npz"), data)._labels == labels
    np.savez(tmp_path / "test.npz", **arrays | {"y_test": [0, -1, 2]})
    with pytest.raises(ValueError, match=r"test\.npz: y_test\[1\] is -1; expected a label from 0"):
        student.TestSet(str(tmp_path / "test.npz"), data)
