"""Signals to hosts of one run: two real processes save, and end with the status to go on."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys, time
from delt_jax.runtime import hosts, interruption
from delt_jax.runtime.command_line import parse_flags, run_program
from delt_jax.runtime.save_points import SavePoints

hosts.BEAT_SECONDS = 0.1

def main(argv):
    address, seconds = argv[1:]
    hosts.join(address).wait("begun")
    with interruption.held_back():
        points = SavePoints()
        print("begun", flush=True)
        while True:
            time.sleep(0.01)
            if points.is_due:
                time.sleep(float(seconds))
                print("saved", flush=True)
                points.saved()

try:
    run_program(main, parse_flags)
finally:
    hosts.current().leave("it says why itself")
"""


@pytest.mark.parametrize("signalled", [[0], [1], [0, 1]])
def test_all_hosts_save_and_can_go_on_whichever_is_signalled(signalled):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    crew = [
        subprocess.Popen(
            # The second one saves for longer than the first one, which holds the notes.
            [sys.executable, "-c", PROGRAM, f"localhost:{port},{index}/2", str(2 * index)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        assert [host.stdout.readline() for host in crew] == ["begun\n", "begun\n"]
        for index in signalled:
            crew[index].send_signal(signal.SIGTERM)
        ends = [host.communicate(timeout=60) for host in crew]
        assert [host.returncode for host in crew] == [75, 75], ends
        assert [out for out, _ in ends] == ["saved\n", "saved\n"]
        assert all("interrupted: " in errors for _, errors in ends)
        for index in signalled:
            assert "interrupted: SIGTERM; what is done is kept" in ends[index][1]
    finally:
        for host in crew:
            host.kill()
            host.communicate()
