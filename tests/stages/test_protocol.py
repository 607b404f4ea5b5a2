"""The published protocol, and a config's deviations from it."""

import pytest
from tiny_run import make_config

from delt_jax.data.specs import IMAGENET_MEAN, SPECS
from delt_jax.errors import InputError
from delt_jax.models.network import Network
from delt_jax.runtime import mesh
from delt_jax.stages.protocol import protocol_defaults, read_protocol

TEACHER = Network("conv3", 10, 32, {}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize(
    ("student", "ipc", "classes", "size", "expected"),
    [
        ("resnet18_small", 1, 10, 32, (10, 0.001)),
        ("resnet18_small", 10, 10, 32, (50, 0.001)),
        ("conv3", 20, 10, 32, (50, 0.001)),
        ("mobilenet_v2", 30, 10, 32, (100, 0.0025)),
        ("resnet18", 100, 10, 224, (100, 0.001)),
        ("resnet18_small", 10, 100, 32, (100, 0.001)),
        ("resnet101_small", 50, 100, 32, (200, 0.001)),
        ("resnet101", 50, 100, 224, (100, 0.001)),
        ("resnet101", 10, 1000, 224, (50, 0.001)),
        ("efficientnet_b0", 50, 1000, 224, (200, 0.002)),
        ("vgg11", 1, 1000, 224, (20, 0.0005)),
        ("vit_b_16", 1, 200, 64, (100, 0.0001)),
        ("swin_v2_t", 50, 200, 64, (100, 0.0001)),
        ("alexnet", 3, 3, 224, (9, 0.0001)),  # never more than there are images
    ],
)
def test_published_batch_size_and_learning_rate(student, ipc, classes, size, expected):
    assert protocol_defaults(student, ipc, classes, size) == expected


def test_zero_means_published_and_anything_else_is_taken(tmp_path):
    config = make_config(tmp_path)
    config.ipc, config.evaluate.batch_size = 10, 0
    published = read_protocol(config, "mobilenet_v2", SPECS["cifar10"], TEACHER)
    assert (published.batch_size, published.learning_rate) == (50, 0.0025)
    assert published.mean == TEACHER.mean
    assert published.views.min_scale == 0.25
    config.evaluate.batch_size, config.evaluate.learning_rate = 7, 0.5
    config.evaluate.statistics = "imagenet"
    other = read_protocol(config, "mobilenet_v2", SPECS["cifar10"], TEACHER)
    assert (other.batch_size, other.learning_rate) == (7, 0.5)
    assert other.mean == IMAGENET_MEAN


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("temperature", 0.0),
        ("min_scale", 1.5),
        ("cutmix", -1.0),
        ("mixup", -0.5),
        ("eval_every", -1),
        ("momentum", 1.0),
        ("average_decay", -0.1),
        ("weight_decay", -0.5),
    ],
)
def test_options_out_of_range_are_named(tmp_path, option, value):
    config = make_config(tmp_path)
    config.evaluate[option] = value
    with pytest.raises(InputError, match=rf"evaluate\.{option}: got {value}, expected"):
        read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("batch_norm", "synchronised, per_device"),
        ("compute_dtype", "auto, float32, bfloat16"),
        ("optimizer", "adamw, sgd"),
    ],
)
def test_unknown_words_are_answered_with_those_there_are(tmp_path, option, words):
    config = make_config(tmp_path)
    config.evaluate[option] = "sync"
    with pytest.raises(InputError, match=rf"{option}: got 'sync', expected one of {words}"):
        read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)


@pytest.mark.parametrize(
    ("labels", "message"),
    [((), "labels: got .* at least one"), (("soft", "hart"), "one of soft, hard.* unlike 'hart'")],
)
def test_labels_are_among_those_there_are(tmp_path, labels, message):
    config = make_config(tmp_path)
    config.evaluate.labels = labels
    with pytest.raises(InputError, match=message):
        read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)


def test_one_mix_at_a_time_and_none_without_augmentation(tmp_path):
    config = make_config(tmp_path)
    config.evaluate.mixup = 0.8
    with pytest.raises(InputError, match=r"cutmix 1\.0 and evaluate\.mixup 0\.8: expected one"):
        read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)
    config.evaluate.cutmix = 0.0
    protocol = read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)
    assert (protocol.views.cutmix, protocol.views.mixup) == (0.0, 0.8)
    config.evaluate.augment, config.evaluate.cutmix = False, 1.0
    assert read_protocol(config, "conv3", SPECS["cifar10"], TEACHER).views is None


def test_each_optimiser_has_rate_and_decay_of_its_own(tmp_path):
    config = make_config(tmp_path)
    config.ipc = 10
    found = []
    for optimizer, decay in (("adamw", -1.0), ("sgd", -1.0), ("sgd", 0.0)):
        config.evaluate.optimizer, config.evaluate.weight_decay = optimizer, decay
        protocol = read_protocol(config, "mobilenet_v2", SPECS["cifar10"], TEACHER)
        found.append((protocol.learning_rate, protocol.weight_decay))
    assert found == [(0.0025, 0.01), (0.1, 5e-4), (0.1, 0.0)]


def test_per_device_statistics_need_equal_shares(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    config.ipc, config.evaluate.batch_norm = 10, "per_device"
    monkeypatch.setattr(mesh, "local_devices", lambda: [None] * 8)
    config.evaluate.batch_size = 40
    assert read_protocol(config, "conv3", SPECS["cifar10"], TEACHER).batch_norm == "per_device"
    config.evaluate.batch_size = 50
    with pytest.raises(InputError, match=r"batch_size 50 of conv3 .* multiple of the 8 devices"):
        read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)


def test_tested_every_so_often_and_at_the_end(tmp_path):
    config = make_config(tmp_path)
    config.evaluate.epochs, config.evaluate.eval_every = 25, 10
    protocol = read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)
    assert [epoch for epoch in range(25) if protocol.is_tested(epoch)] == [0, 10, 20, 24]
    config.evaluate.eval_every = 0
    protocol = read_protocol(config, "conv3", SPECS["cifar10"], TEACHER)
    assert [epoch for epoch in range(25) if protocol.is_tested(epoch)] == [24]
