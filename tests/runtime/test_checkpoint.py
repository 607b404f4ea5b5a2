"""Checkpoints: what was saved comes back, the latest that is whole wins."""

import types

import jax.numpy as jnp
import numpy as np

from delt_jax.runtime import hosts
from delt_jax.runtime.checkpoint import KEEP, Checkpointer
from delt_jax.runtime.hosts import Hosts


def tree(value):
    return {"images": jnp.full((2, 3), value, jnp.float32), "t": np.int32(value)}


def test_latest_comes_back_bit_for_bit(tmp_path):
    with Checkpointer(tmp_path / "state") as checkpointer:
        assert checkpointer.restore_latest(tree(0)) is None
        checkpointer.save(10, tree(1.5))
        checkpointer.save(20, tree(2.5))
    with Checkpointer(tmp_path / "state") as checkpointer:
        found = checkpointer.restore_latest(tree(0))
    assert found is not None
    step, restored = found
    assert step == 20
    np.testing.assert_array_equal(restored["images"], np.full((2, 3), 2.5, np.float32))
    assert restored["t"] == 2 and restored["t"].dtype == np.int32


def test_old_checkpoints_are_removed(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(5):
            checkpointer.save(step, tree(step))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(5))[-KEEP:]


def test_a_broken_checkpoint_falls_back_to_the_one_before(tmp_path, capsys):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
        checkpointer.save(2, tree(2))
    for file in (tmp_path / "2").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpointer(tmp_path) as checkpointer:
        found = checkpointer.restore_latest(tree(0))
    assert found is not None and found[0] == 1
    assert "checkpoint 2" in capsys.readouterr().out


def test_a_checkpoint_with_a_damaged_byte_falls_back_to_the_one_before(tmp_path, capsys):
    numbers = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"a": numbers})
        checkpointer.save(2, {"a": numbers + 1})
    largest = max((tmp_path / "2").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with Checkpointer(tmp_path) as checkpointer:
        step, restored = checkpointer.restore_latest({"a": numbers}) or (0, {})
    assert step == 1
    np.testing.assert_array_equal(restored["a"], numbers)
    assert "checkpoint 2" in capsys.readouterr().out


def test_a_checkpoint_of_other_shapes_is_passed_over(tmp_path):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
        assert checkpointer.restore_latest({"images": jnp.zeros((2, 4)), "t": np.int32(0)}) is None


def test_a_run_on_one_host_goes_on_with_what_several_left_and_the_other_way_round(
    tmp_path, monkeypatch, capsys
):
    one, two = Hosts(), types.SimpleNamespace(count=2, index=0)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
    monkeypatch.setattr(hosts, "current", lambda: two)
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.latest_step() == 1
        step, restored = checkpointer.restore_latest(tree(0)) or (0, {})
        assert (step, restored["t"]) == (1, 1), "read by a process of its own"
        for later in (2, 3, 4):
            checkpointer.save(later, tree(later))
    assert len(list(tmp_path.rglob("*.safetensors"))) == KEEP
    monkeypatch.setattr(hosts, "current", lambda: one)
    with Checkpointer(tmp_path) as checkpointer:
        step, restored = checkpointer.restore_latest(tree(0)) or (0, {})
        assert step == 4
        np.testing.assert_array_equal(restored["images"], np.full((2, 3), 4, np.float32))
        checkpointer.save(5, tree(5))
        assert checkpointer.latest_step() == 5
    assert "cannot be read" not in capsys.readouterr().out
