"""Checkpoints: what was saved comes back, the latest that is whole wins."""

import contextlib
import errno
import math
import signal
import subprocess
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from delt_jax.runtime import checkpoint, hosts, interruption
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


def test_a_broken_checkpoint_falls_back_to_the_one_before(tmp_path, capsys, caplog):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
        checkpointer.save(2, tree(2))
    for file in (tmp_path / "2").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with Checkpointer(tmp_path) as checkpointer:
        found = checkpointer.restore_latest(tree(0))
    assert found is not None and found[0] == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"checkpoint 2 in {tmp_path} cannot be read: ")
    assert not caplog.records  # tracebacks of Orbax's, above our one line


def damage(folder, step):
    """Empties the files of a checkpoint, of one host or of several."""
    for path in (*(folder / f"{step}").rglob("*"), *folder.rglob(f"*{step}.safetensors")):
        if path.is_file():
            path.write_bytes(b"")


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("damaged", "first"), [([60], 50), ([50, 60], None)])
def test_what_is_saved_after_a_fallback_is_what_the_next_start_goes_on_from(
    tmp_path, monkeypatch, count, damaged, first
):
    crew = types.SimpleNamespace(count=count, index=0)
    monkeypatch.setattr(hosts, "current", lambda: crew)
    with Checkpointer(tmp_path) as checkpointer:
        for step in (50, 60):
            checkpointer.save(step, tree(step))
    for step in damaged:
        damage(tmp_path, step)
    with Checkpointer(tmp_path) as checkpointer:
        found = checkpointer.restore_latest(tree(0))
        assert (found and found[0]) == first
        for step in (52, 54):
            checkpointer.save(step, tree(step))
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.latest_step() == 54
        step, restored = checkpointer.restore_latest(tree(0)) or (0, {})
    assert (step, restored["t"]) == (54, 54)


def test_a_save_that_was_declined_is_an_error(tmp_path, monkeypatch):
    declines = types.SimpleNamespace(save=lambda *args, **options: False)
    monkeypatch.setattr(Checkpointer, "_open", lambda self: declines)
    with pytest.raises(RuntimeError, match=r"checkpoint 3 in .*declined"):
        Checkpointer(tmp_path).save(3, tree(3))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "", "x"),
        OSError(errno.ESTALE, "", "x"),
        PermissionError(errno.EACCES, "", "x"),
        ValueError("Error reading \"/x\": [os_error_code='116']"),
        MemoryError(),
    ],
    ids=repr,
)
def test_a_fault_of_the_machine_is_no_damage(tmp_path, monkeypatch, error, capsys):
    def fail(*args):
        raise error

    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
        with monkeypatch.context() as patch:
            patch.setattr(Checkpointer, "_read", fail)
            with pytest.raises(type(error)):
                checkpointer.restore_latest(tree(0))
        assert capsys.readouterr().out == ""
        assert (checkpointer.restore_latest(tree(0)) or (0,))[0] == 1


@pytest.mark.parametrize(
    ("status", "words", "raises"),
    [
        (1, "OSError: [Errno 116] Stale file handle: '/x'", pytest.raises(OSError, match="Stale")),
        (1, "ValueError: Error [os_error_code='5']\n  [locations]", pytest.raises(OSError)),
        (-signal.SIGKILL, "", pytest.raises(MemoryError)),
        (-signal.SIGSEGV, "", contextlib.nullcontext()),
        (1, "KeyError: 'tree'", contextlib.nullcontext()),
    ],
)
def test_nor_is_one_that_another_process_met(tmp_path, monkeypatch, status, words, raises):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
    ended = subprocess.CompletedProcess([], status, "", f"Traceback:\n  File x\n{words}\n")
    monkeypatch.setattr(checkpoint.subprocess, "run", lambda *args, **options: ended)
    monkeypatch.setattr(hosts, "current", lambda: types.SimpleNamespace(count=2, index=0))
    with raises:
        assert Checkpointer(tmp_path).restore_latest(tree(0)) is None


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "")])
def test_a_signal_that_comes_while_it_saves_lets_it_end(tmp_path, monkeypatch, error):
    request, seen = interruption._Request(), []
    monkeypatch.setattr(interruption, "_request", request)

    def save(*args, **options):
        interruption._on_signal(signal.SIGTERM, None)
        seen.append(request.deadline)
        if error:
            raise error
        return True

    monkeypatch.setattr(Checkpointer, "_open", lambda self: types.SimpleNamespace(save=save))
    request.held_back = 1
    with pytest.raises(OSError) if error else contextlib.nullcontext():
        Checkpointer(tmp_path).save(1, tree(1))
    assert seen == [math.inf]
    assert request.deadline is not None and request.deadline < math.inf


def test_restoring_takes_no_memory_of_the_device(tmp_path, monkeypatch):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, tree(1))
        load, likes = checkpointer._open().load, []
        opened = types.SimpleNamespace(load=lambda *args: likes.append(args[1]) or load(*args))
        monkeypatch.setattr(Checkpointer, "_open", lambda self: opened)
        assert checkpointer.restore_latest(tree(0)) is not None
    (like,) = likes
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(like))


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
