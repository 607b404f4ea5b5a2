"""Faults of disks and devices: told apart, named, and nothing half written is left."""

import errno

import jax
import numpy as np
import pytest
from file_limits import files_of_at_most

from delt_jax.errors import InputError, Interrupted
from delt_jax.runtime import command_line, faults
from delt_jax.runtime.checkpoint import Checkpointer
from delt_jax.runtime.metrics import MetricsLog, read_metrics
from delt_jax.runtime.workdir import write_atomically


def test_a_write_without_room_names_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_atomically(path, b"before")
    with pytest.raises(OSError) as caught, files_of_at_most(1 << 20):
        write_atomically(path, bytes(2 << 20))
    assert [file.name for file in path.parent.iterdir()] == ["b.bin"]
    assert path.read_bytes() == b"before"
    fault = faults.explained(caught.value)
    assert isinstance(fault, Interrupted)
    start, _, rest = str(fault).partition(" (")
    assert start == f"{path}: File too large"
    assert f"bytes are free now in {path.parent}); make room; what is done is kept" in rest


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path, caplog):
    small, large = ({"a": np.arange(n, dtype=np.uint32) * 2654435761} for n in (10, 1 << 20))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, small)
        with pytest.raises(Exception) as caught, files_of_at_most(1 << 20):
            checkpointer.save(2, large)
    assert not caplog.records  # tracebacks of Orbax's, above our one line
    fault = faults.explained(caught.value)
    assert isinstance(fault, Interrupted)
    assert str(fault).startswith(f"{tmp_path}/2.") and "File too large" in str(fault)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    with Checkpointer(tmp_path) as checkpointer:
        step, _ = checkpointer.restore_latest(small)
        assert step == 1
        checkpointer.save(2, small)
        assert checkpointer.latest_step() == 2


def test_a_line_of_metrics_that_was_cut_short_does_not_spoil_the_next(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write("one", value=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"time": 3, "sta')
    log.write("two", value=2)
    assert [row["stage"] for row in read_metrics(tmp_path / "metrics.jsonl")] == ["one", "two"]


@pytest.mark.parametrize(
    ("number", "kind", "reason"),
    [
        (errno.ENOSPC, Interrupted, "No space left on device"),
        (errno.EDQUOT, Interrupted, "quota exceeded"),
        (errno.EIO, Interrupted, "Input/output error; see to the disk"),
        (errno.EROFS, InputError, "Read-only file system; expected"),
        (errno.EACCES, InputError, "Permission denied; expected"),
    ],
)
def test_what_disks_say_is_one_line(number, kind, reason, tmp_path):
    error = OSError(number, "", str(tmp_path / "not" / "there"))
    wrapped = ValueError("a library's words")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        fault = faults.explained(one)
        assert isinstance(fault, kind)
        assert str(tmp_path / "not" / "there") in str(fault) and reason in str(fault)
        assert "\n" not in str(fault)


def test_other_errors_are_left_alone():
    assert faults.explained(ValueError("RESOURCE_EXHAUSTED: of something")) is None
    assert faults.explained(FileNotFoundError(errno.ENOENT, "", "x")) is None


def test_out_of_device_memory_is_told_from_a_full_disk():
    full = ValueError("RESOURCE_EXHAUSTED: Error writing \"/a/b\": [os_error_code='28']")
    assert not faults.is_out_of_device_memory(full)
    assert faults.is_disk_full(full)
    device = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    assert faults.is_out_of_device_memory(device)
    assert not faults.is_disk_full(device)


@pytest.fixture
def run_program(monkeypatch):
    """What runs a program, as often as one likes: absl's own can be called once."""
    monkeypatch.setattr(command_line.app, "run", lambda main, flags_parser: main([]))
    return lambda main: command_line.run_program(main, list)


def test_a_program_ends_with_a_line_and_the_status_to_try_again(run_program, capsys):
    def main(argv):
        raise OSError(errno.ENOSPC, "", "/dev/null/x") from None

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted: /dev/null/x: No space left on device (")


def test_an_error_in_the_program_keeps_its_traceback(run_program):
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program(main)


def test_a_full_disk_is_no_mistake_whoever_notices_it(run_program, capsys):
    def main(argv):
        raise InputError("x: cannot write there") from OSError(errno.EDQUOT, "", "/dev/null/x")

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == 75
    assert "/dev/null/x: Disk quota exceeded" in capsys.readouterr().err


def test_an_error_that_is_handled_explains_no_other():
    error = KeyError("y")
    error.__context__ = OSError(errno.EIO, "", "x")
    assert isinstance(faults.explained(error), Interrupted)
    error.__suppress_context__ = True  # raised "from None"
    assert faults.explained(error) is None


def test_mistakes_are_not_taken_for_faults(run_program, capsys):
    def main(argv):
        raise InputError("words of its own") from PermissionError(errno.EACCES, "", "x")

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: words of its own\n"
