"""Signals: saved and ended with the right status, in time, even where nobody listens."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys, time
from delt_jax.runtime import interruption
from delt_jax.runtime.command_line import parse_flags, run_program

def main(argv):
{body}

run_program(main, parse_flags)
"""
WAITS = """
    print("begun", flush=True)
    time.sleep(60)
"""
WORKS = """
    with interruption.held_back():
        print("begun", flush=True)
        while True:
            time.sleep(0.01)
            if interruption.is_asked():
                print("saved", flush=True)
                interruption.check()
"""
ENDS_BEFORE_A_PLACE_TO_SAVE = """
    with interruption.held_back():
        print("begun", flush=True)
        print(sys.stdin.readline(), end="", flush=True)  # sent after the signal
    print("reached")
"""
DEAF = """
    with interruption.held_back():
        print("begun", flush=True)
        time.sleep(60)
"""
SETS = "import delt_jax.runtime.interruption as i; i"


@contextlib.contextmanager
def started(body, before="", **options):
    """A program, once it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM.format(body=body)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def end_of(process, given=""):
    out, errors = process.communicate(given, timeout=60)
    return process.returncode, out, errors


GOES_ON = "what is done is kept, and the same command goes on from there\n"


@pytest.mark.parametrize("body", [WAITS, WORKS, ENDS_BEFORE_A_PLACE_TO_SAVE])
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGTERM, 75, f"interrupted: SIGTERM; {GOES_ON}"),
        (signal.SIGHUP, 75, f"interrupted: SIGHUP, the terminal is gone; {GOES_ON}"),
        (signal.SIGINT, 130, "interrupted: the same command goes on from here\n"),
    ],
)
def test_ends_in_one_line_and_says_by_its_status_that_it_can_go_on(body, number, status, message):
    with started(body) as process:
        process.send_signal(number)
        said = {WAITS: "", WORKS: "saved\n", ENDS_BEFORE_A_PLACE_TO_SAVE: "line\n"}[body]
        assert end_of(process, "line\n") == (status, said, message)


def test_a_second_signal_ends_it_at_once():
    with started(DEAF, f"{SETS}.SAME_SECONDS = 0.5\n") as p:
        p.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(timeout=1)
        p.send_signal(signal.SIGTERM)
        message = "interrupted: by a second signal, at once; what was saved before is kept\n"
        assert end_of(p) == (75, "", message)


def test_the_same_request_twice_is_one():
    with started(WORKS) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert end_of(process) == (75, "saved\n", f"interrupted: SIGTERM; {GOES_ON}")


def test_what_does_not_come_to_a_place_to_save_is_ended_in_time():
    with started(DEAF, f"{SETS}.GRACE_SECONDS = 1\n") as p:
        p.send_signal(signal.SIGTERM)
        message = "interrupted: not ended within 1 s of the signal; what was saved before is kept\n"
        assert end_of(p) == (75, "", message)


def test_under_nohup_the_terminal_may_go():
    ignores = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with started(ENDS_BEFORE_A_PLACE_TO_SAVE, ignores) as process:
        process.send_signal(signal.SIGHUP)
        assert end_of(process, "goes on\n") == (0, "goes on\nreached\n", "")
