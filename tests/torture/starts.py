"""One start of the command, watched through the files that it leaves in its work directory."""

import fcntl
import functools
import os
import pathlib
import select
import shutil
import subprocess
import sys
import termios
import threading
import time

from tests.torture.snapshot import is_half_written

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "tests/torture/digits.py"
START = "start"  # until the first stage begins: imports, checks
STAGES = (START, "squeeze", "select", "synthesize", "relabel", "evaluate", "report", "export")
POLL_SECONDS = 0.002
# Written all the time, or by every start: they tell nothing of the work that is saved.
NOT_SAVED_WORK = ("metrics.jsonl", "stages", "config.json", ".lock")


class Start:
    """A process of the run, started at once.

    Args:
      workdir: of the run.
      cache: folder of its compiled programs.
      log: file that gets what it says.
      output: what its output goes to: "file", "pipe" or "terminal"; the last two can be lost.
      flags: further ones.
      unprivileged: take root's right to write into read-only folders from it.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        cache: pathlib.Path,
        log: pathlib.Path,
        output: str = "file",
        flags: tuple[str, ...] = (),
        unprivileged: bool = False,
    ):
        self.workdir, self._log = workdir, log
        self._reader, self._hung_up = None, threading.Event()
        self.again = functools.partial(Start, workdir, cache, log, unprivileged=unprivileged)
        command = [sys.executable, "-m", "delt_jax.main", f"--config={CONFIG}"]
        command += [f"--workdir={workdir}", f"--compilation_cache={cache}", *flags]
        if unprivileged:
            nothing = ("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all")
            command = ["setpriv", *nothing, "--", *command]
        variables = {
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "",
        }
        self.began, began = time.monotonic(), time.time_ns()
        with log.open("ab") as file:
            end = {"pipe": os.pipe, "terminal": os.openpty}.get(output)
            ours, theirs = end() if end else (-1, file.fileno())
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | variables,
                stdin=theirs if output == "terminal" else subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=_take_terminal if output == "terminal" else None,
            )
            if end:
                os.close(theirs)
                self._reader = threading.Thread(
                    target=_copy, args=(ours, os.dup(file.fileno()), self._hung_up), daemon=True
                )
                self._reader.start()
        self._began_wall = began

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stage(self) -> str:
        """The stage that is under way, by the record that was written last since the start."""
        newest, found = self._began_wall, START
        for name in STAGES[1:]:
            written = self._recorded(name)
            if written > newest:
                newest, found = written, name
        return found

    def has_begun(self, stage: str) -> bool:
        """Whether a stage has begun since this start, in it or in a second run beside it."""
        return self._recorded(stage) > self._began_wall

    def _recorded(self, stage: str) -> int:
        """When the record of a stage was written, as it begins and as it ends; as `modified`."""
        return modified(self.workdir / "stages" / f"{stage}.json")

    def await_stage(self, stage: str, seconds: float) -> bool:
        """Waits until a stage, or a later one, is under way; False where the process ends first."""
        deadline, wanted = time.monotonic() + seconds, STAGES.index(stage)
        while self.is_running and time.monotonic() < deadline:
            if STAGES.index(self.stage()) >= wanted:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def sleep(self, seconds: float) -> bool:
        """Sleeps while the process runs; whether it still does."""
        deadline = time.monotonic() + seconds
        while self.is_running and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self.is_running

    def hang_up(self) -> None:
        """Closes our end of its output."""
        assert self._reader is not None
        self._hung_up.set()
        self._reader.join()

    def last_words(self) -> str:
        """The last line that it has said."""
        lines = self._log.read_text(errors="replace").split("\n") if self._log.exists() else []
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing")

    def unsaved_seconds(self, until: float) -> float:
        """Seconds of work before a moment (as `time.time`) that no file holds; from files alone."""
        newest = self._began_wall
        for path in self.workdir.rglob("*"):
            name = path.relative_to(self.workdir).as_posix()
            if name.split("/")[0] not in NOT_SAVED_WORK and not is_half_written(name):
                newest = max(newest, modified(path))
        return max(0.0, until - newest / 1e9)

    def wait(self, seconds: float) -> int | None:
        """The exit status, negative for a signal; None where it had to be killed for its time."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = None
        if self._reader is not None:
            self._reader.join(5)
        return status


def modified(path: pathlib.Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def can_drop_privileges() -> bool:
    """Whether a read-only folder can be made that the run cannot write to."""
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _copy(source: int, target: int, hung_up: threading.Event) -> None:
    """Copies what is read until there is no more, or until nobody is to listen any longer."""
    try:
        while not hung_up.is_set():
            if select.select([source], [], [], 0.02)[0]:
                block = os.read(source, 1 << 16)
                if not block:
                    return
                os.write(target, block)
    except OSError:  # a terminal whose other end is closed
        pass
    finally:
        os.close(source)
        os.close(target)
