"""Printing into nothing costs nothing."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import pathlib, sys
from delt_jax.runtime.command_line import parse_flags, run_program

def main(argv):
    sys.stdin.readline()
    for _ in range(3):
        print("some words", flush=True)
        print("some words", file=sys.stderr, flush=True)
    print("left in the buffer")
    pathlib.Path("result").write_text("whole")

run_program(main, parse_flags)
"""


def run(folder, output, before=lambda: None):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
    )
    before()
    process.communicate(b"go\n", timeout=60)
    return process.returncode


def test_a_pipe_that_nobody_reads_any_more(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    assert run(tmp_path, writer, lambda: os.close(writer)) == 0
    assert (tmp_path / "result").read_text() == "whole"


def test_a_terminal_that_is_gone(tmp_path):
    master, slave = os.openpty()
    assert run(tmp_path, slave, lambda: (os.close(slave), os.close(master))) == 0
    assert (tmp_path / "result").read_text() == "whole"


def test_output_that_was_closed_before_the_program_began(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"exec {sys.executable} program.py >&- 2>&-"
    done = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=b"go\n",
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "whole"


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="Linux has a disk that is full")
def test_a_log_on_a_full_disk(tmp_path):
    with pathlib.Path("/dev/full").open("wb") as full:
        assert run(tmp_path, full) == 0
    assert (tmp_path / "result").read_text() == "whole"
