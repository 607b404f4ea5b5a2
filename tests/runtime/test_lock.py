"""One run at a time: refused in a line that names the other, free as soon as that is dead."""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import pytest

from delt_jax.errors import InputError
from delt_jax.runtime import lock

ROOT = pathlib.Path(__file__).parents[2]
HOLDS = """
import pathlib, time
from delt_jax.runtime import lock
with lock.held(pathlib.Path(".")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_named_as_often_as_one_asks(tmp_path, other):
    who = rf"process {other.pid} of host {re.escape(socket.gethostname())}, since 2\d{{3}}-.* runs"
    for _ in range(2):
        with pytest.raises(InputError, match=who), lock.held(tmp_path):
            pytest.fail("held twice")


def test_what_a_dead_process_held_is_free_at_once(tmp_path, other):
    other.kill()
    other.wait()
    with lock.held(tmp_path):
        assert json.loads((tmp_path / lock.FILE).read_text())["process"] == os.getpid()


def test_held_again_and_again_the_file_stays(tmp_path):
    for _ in range(2):
        with lock.held(tmp_path):
            inode = (tmp_path / lock.FILE).stat().st_ino
    assert (tmp_path / lock.FILE).stat().st_ino == inode


def test_two_folders_are_two_locks(tmp_path):
    (tmp_path / "point").mkdir()
    with lock.held(tmp_path), lock.held(tmp_path / "point"):
        pass


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with pytest.raises(KeyError) as caught, lock.held(tmp_path):
        raise KeyError("of the run")
    assert caught.value.__context__ is None  # else it would be explained by that of the lock
    assert caplog.messages == [
        f"{tmp_path}: cannot be locked (Operation not supported); start one run only"
    ]
