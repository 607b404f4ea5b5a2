"""Points in processes of their own: kept, failed, logged, interrupted."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import fabricated
import pytest

from delt_jax.errors import Interrupted
from delt_jax.sweep import running


@dataclasses.dataclass(frozen=True, eq=False)
class Fake:
    """A step that runs some Python instead of a point."""

    step: object
    code: str
    is_done: bool = False
    missing: str = ""

    def __getattr__(self, name):
        return getattr(self.step, name)

    @property
    def command(self):
        return [sys.executable, "-c", self.code]


@pytest.fixture
def steps(tmp_path):
    return fabricated.make_steps(tmp_path)


def test_a_failed_point_is_named_and_the_sweep_goes_on(steps, capfd):
    said = []
    failures = running.run_points(
        [
            Fake(steps[0], "print('one'); print('error: no such file'); raise SystemExit(2)"),
            Fake(steps[1], "import sys; print('two'); print('end', file=sys.stderr)"),
        ],
        said.append,
    )
    assert failures == {"delt": "error: no such file"}
    assert said[1] == "point 1 of 2, delt: failed (exit code 2): error: no such file"
    assert said[2].startswith("point 2 of 2, early_only: begins, ")
    assert said[2].endswith(" left")
    assert said[3].startswith("point 2 of 2, early_only: done in ")
    assert capfd.readouterr().out.splitlines() == ["one", "error: no such file", "two", "end"]
    log = steps[1].workdir.path / running.LOG
    assert log.read_text() == "two\nend\n"


def test_points_that_are_done_are_kept(steps):
    said = []
    done = [Fake(steps[0], "raise SystemExit(9)", is_done=True), Fake(steps[1], "pass")]
    assert running.run_points(done, said.append) == {}
    assert said[0] == "point 1 of 2, delt: done before, kept"
    assert not (steps[0].workdir.path / running.LOG).exists()


def test_a_point_without_what_it_needs_fails_at_once(steps):
    said = []
    fake = Fake(steps[2], "print('ran')", missing="the teacher of point 1 (delt)")
    assert running.run_points([fake], said.append, total=3) == {
        "rded": "needs the teacher of point 1 (delt)"
    }
    assert said[0].startswith("point 3 of 3, rded: begins")


def test_logs_of_several_starts_are_kept(tmp_path, capfd):
    for text in ("first", "second"):
        code, last = running.run_logged([sys.executable, "-c", f"print('{text}')"], tmp_path / "l")
        assert (code, last) == (0, text)
    assert (tmp_path / "l").read_text() == "first\nsecond\n"
    assert capfd.readouterr().out == "first\nsecond\n"


def test_an_interrupted_sweep_leaves_no_process_behind(tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = (
        "import pathlib, signal, sys\n"
        "from delt_jax.sweep import running\n"
        # A shell's job in the background ignores it, and so do its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"running.run_logged([sys.executable, '-c', {child!r}], pathlib.Path('log'))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109
    sweep = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = int(sweep.stdout.readline())
    sweep.send_signal(signal.SIGINT)  # to the sweep alone
    _, errors = sweep.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the point still runs")


SWEEP = """
import pathlib, sys
from delt_jax.runtime import interruption
from delt_jax.runtime.command_line import parse_flags, run_program
from delt_jax.sweep import running

interruption.GRACE_SECONDS = 0.5  # less than the point takes to save

POINT = '''
import time
from delt_jax.runtime import interruption
from delt_jax.runtime.command_line import parse_flags, run_program

def main(argv):
    with interruption.held_back():
        print("begun", flush=True)
        while not interruption.is_asked():
            time.sleep(0.01)
        time.sleep(1)
        print("saved")
        interruption.check()

run_program(main, parse_flags)
'''
run_program(
    lambda argv: running.run_logged([sys.executable, "-c", POINT], pathlib.Path("log")), parse_flags
)
"""


@pytest.mark.parametrize("to_all", [False, True])
def test_a_sweep_that_is_asked_to_end_lets_its_point_save(tmp_path, to_all):
    sweep = subprocess.Popen(
        [sys.executable, "-c", SWEEP],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert sweep.stdout.readline() == "begun\n"
    if to_all:  # as Slurm and a terminal that closes do
        os.killpg(sweep.pid, signal.SIGTERM)
    else:
        sweep.send_signal(signal.SIGTERM)
    out, errors = sweep.communicate(timeout=60)
    line = "interrupted: SIGTERM; what is done is kept, and the same command goes on from there\n"
    assert (sweep.returncode, out, errors) == (75, f"saved\n{line}", line)
    assert (tmp_path / "log").read_text() == f"begun\nsaved\n{line}"


def test_a_point_that_was_interrupted_ends_the_sweep(steps):
    code = "print('interrupted: /data: No space left on device'); raise SystemExit(75)"
    message = "point 1 of 2, delt: /data: No space left on device"
    with pytest.raises(Interrupted, match=message):
        running.run_points([Fake(steps[0], code), Fake(steps[1], "pass")], lambda line: None)
    assert not (steps[1].workdir.path / running.LOG).exists()
