"""What of a set may lie on a device follows the device's memory."""

import types

import pytest

from delt_jax.runtime import mesh
from delt_jax.stages import device_pool
from delt_jax.stages.device_pool import lies_on_device

IMAGENET_IPC_50 = 50_000 * 224 * 224 * 3  # 7.5 GB


def device(bytes_limit):
    stats = None if bytes_limit is None else {"bytes_limit": bytes_limit}
    return types.SimpleNamespace(memory_stats=lambda: stats)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([140 << 30], int(0.25 * 0.9 * (140 << 30))),
        ([16 << 30, 8 << 30], int(0.25 * 0.9 * (8 << 30))),  # it lies on all: the smallest decides
        ([None], 2 << 30),  # a CPU
    ],
)
def test_bytes_of_a_pool(monkeypatch, limits, expected):
    monkeypatch.setattr(mesh, "local_devices", lambda: list(map(device, limits)))
    assert device_pool.pool_bytes() == expected
    assert lies_on_device(expected)
    assert not lies_on_device(expected + 1)


def test_imagenet_at_ipc_50_lies_on_a_large_gpu(monkeypatch):
    monkeypatch.setattr(mesh, "local_devices", lambda: [device(105 << 30)])  # JAX takes 75 %
    assert lies_on_device(IMAGENET_IPC_50)
    monkeypatch.setattr(mesh, "local_devices", lambda: [device(12 << 30)])
    assert not lies_on_device(IMAGENET_IPC_50)
