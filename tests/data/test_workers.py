"""Processes that decode: how many, and what becomes of them."""

import functools
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from delt_jax.data.arrays import ArraySource
from delt_jax.data.workers import resolve_workers, spread
from delt_jax.errors import InputError


class Many:
    """A source as far as its length tells."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count


def test_auto_takes_processes_for_large_splits_on_large_machines():
    large, small = Many(5001), Many(5000)
    assert resolve_workers(-1, large, cores=16) == 15
    assert resolve_workers(-1, large, cores=4) == 0
    assert resolve_workers(-1, small, cores=16) == 0
    in_memory = ArraySource(np.zeros((6000, 1, 1, 3), np.uint8), np.zeros(6000, int), ("a",))
    assert resolve_workers(-1, in_memory, cores=16) == 0


@pytest.mark.parametrize("workers", [0, 3])
def test_a_number_is_taken_at_its_word(workers):
    assert resolve_workers(workers, Many(10), cores=2) == workers


def test_a_dead_worker_is_told_of():
    with (
        spread(os._exit, 1) as leave,
        pytest.raises(InputError, match=r"one of 1 processes .* has died.* smaller data\.workers"),
    ):
        leave(3)


def test_signals_are_for_the_parent():
    with spread(os.getpid, 1) as process:
        worker = process()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(worker, number)
        assert process() == worker


STOPS_EARLY = """
import sys
import numpy as np
from delt_jax.data.arrays import ArraySource
from delt_jax.data.pipeline import batches

if __name__ == "__main__":
    images = np.zeros((400, 64, 64, 3), np.uint8)
    source = ArraySource(images, np.zeros(400, int), ("a",))
    for number, batch in enumerate(batches(source, None, 20, 64, workers=2)):
        if number == int(sys.argv[1]):
            break
    print(number)
"""


@pytest.mark.parametrize("last", [3, 19])
def test_nothing_is_left_or_complained_of_at_the_end(tmp_path, last):
    (tmp_path / "script.py").write_text(STOPS_EARLY)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(last)],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{last}\n", "")


def test_a_worker_that_dies_before_it_has_begun_is_told_of(monkeypatch):
    multiprocessing.resource_tracker.ensure_running()  # which is started likewise
    false = next(f for f in map(pathlib.Path, ("/bin/false", "/usr/bin/false")) if f.exists())
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", bytes(false))
    large = functools.partial(len, bytes(1 << 20))  # more than a pipe holds
    ended = threading.Event()

    def use():
        with pytest.raises(InputError, match="has died"), spread(large, 1) as call:
            call()
        ended.set()

    threading.Thread(target=use, daemon=True).start()
    assert ended.wait(60)


def test_workers_get_what_is_larger_than_a_pipe():
    with spread(functools.partial(len, bytes(1 << 20)), 2) as call:
        assert [call(), call()] == [1 << 20] * 2
