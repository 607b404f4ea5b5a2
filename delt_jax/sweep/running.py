"""Runs the points of a sweep one after another, each in a process of its own."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from delt_jax.errors import Interrupted
from delt_jax.report.wording import duration
from delt_jax.runtime import interruption
from delt_jax.sweep.planning import Step

LOG = "sweep.log"  # in a point's folder: all that its processes have said
# Seconds for a point to end once the sweep is to. One that cannot save ends itself long before.
PATIENCE = 300.0


def run_points(
    steps: Sequence[Step], say: Callable[[str], None] = print, total: int | None = None
) -> dict[str, str]:
    """Runs what is not done yet; a point that fails does not stop the others.

    Args:
      steps: the points to run, in their order.
      say: takes the lines for people; what the points say goes to the standard output as well.
      total: how many points the sweep has, where these are a part of them.

    Returns:
      The names of the points that failed, with the last line that each has said.

    Raises:
      Interrupted: where a point was, as by a signal or a full disk.
    """
    failures: dict[str, str] = {}
    total = len(steps) if total is None else total
    start, took = time.monotonic(), []
    waiting = [step for step in steps if not step.is_done]
    for step in steps:
        label = f"point {step.number} of {total}, {step.point.name}"
        if step not in waiting:
            say(f"{label}: done before, kept")
            continue
        elapsed = duration(round(time.monotonic() - start))
        left = ""
        if took:
            remaining = len(waiting) - len(took)
            left = f", about {duration(round(sum(took) / len(took) * remaining))} left"
        say(f"{label}: begins, {elapsed} elapsed{left}")
        began = time.monotonic()
        if step.missing:
            code, last = 1, f"needs {step.missing}"
        else:
            code, last = run_logged(step.command, step.workdir.path / LOG)
        if code == interruption.INTERRUPTED:  # by what ends the other points, too
            raise Interrupted(f"{label}: {last.removeprefix('interrupted: ')}")
        took.append(time.monotonic() - began)
        if code:
            failures[step.point.name] = last
            say(f"{label}: failed (exit code {code}): {last}")
        else:
            say(f"{label}: done in {duration(took[-1])}")
    return failures


def run_logged(command: Sequence[str], log: pathlib.Path) -> tuple[int, str]:
    """Runs a command, its output passed through and appended to a log.

    Returns:
      Its exit code, and the last line that it has said.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last = "said nothing"
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"PYTHONUNBUFFERED": "1"},  # lines pass through as they are said
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)  # first: a signal may come between the two
                file.flush()
                sys.stdout.write(line)
                sys.stdout.flush()
                last = line.strip() or last
            return process.wait(), last
        except BaseException as error:
            # Ctrl-C at a terminal has reached it, too; whatever else ends a sweep may not have.
            rest = _end(process, error)
            sys.stdout.write(rest)
            file.write(rest)
            raise


def _end(process: subprocess.Popen[str], error: BaseException) -> str:
    """Ends a point, which saves what it has under way; returns what it says to that."""
    interruption.is_asked()  # it may take its time
    at_terminal = isinstance(error, KeyboardInterrupt) and sys.stdin and sys.stdin.isatty()
    if not at_terminal:
        process.terminate()  # at once: a second signal so soon after another one counts as the same
    try:
        return process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.kill()  # a run goes on from its last checkpoint, however it was ended
        return ""
