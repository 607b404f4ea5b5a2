"""A short torture, and that a torture would notice."""

import json
import random
import subprocess
import sys

import pytest
from run_module import run_module

from tests.torture import faults, snapshot
from tests.torture.starts import STAGES
from tests.torture.tally import Hit, Tally


@pytest.mark.slow
def test_a_few_kills_and_faults_lose_nothing(tmp_path):
    figures = tmp_path / "figures.json"
    done = run_module(
        "tests.torture",
        "--most=5",
        "--minutes=60",  # ends after five faults, however slow the machine is
        "--seed=2",
        "--faults=kill,term,corrupt,partial,filesize",
        f"--workdir={tmp_path}",
        f"--json={figures}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert (found["losses"], found["unexpected"], found["left_behind"]) == ([], [], 0)
    assert len(found["hits"]) >= 5 and found["runs"] >= 1


@pytest.fixture
def finished(tmp_path):
    """A run that has ended, as far as the torture looks at it."""
    contents = {
        "results.json": json.dumps({"top1": 50.0, "cost": {"seconds": 1.5, "iterations": 4}}),
        "distilled/train/a/0.png": "pixels",
        "distilled/train/a/0 0.png": "pixels",
        "stages/squeeze.json": "{}",
        "metrics.jsonl": "{}",
        ".lock": "held",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def test_times_may_differ(finished):
    before = snapshot.snapshot(finished)
    images = ["distilled/train/a/0 0.png", "distilled/train/a/0.png"]
    assert list(before) == [*images, "results.json"]
    (finished / "results.json").write_text(
        json.dumps({"cost": {"iterations": 4, "seconds": 9.0}, "top1": 50.0})
    )
    assert snapshot.differences(before, snapshot.snapshot(finished)) == []


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("results.json", '{"top1": 51.0, "cost": {"iterations": 4}}', "results.json differs"),
        ("distilled/train/a/0.png", "pixelz", "distilled/train/a/0.png differs"),
        ("distilled/train/a/0.png", None, "distilled/train/a/0.png is missing"),
        ("distilled/train/a/0 0.png", "other", "distilled/train/a/0 0.png differs"),
        ("distilled/train/a/1.png", "more", "distilled/train/a/1.png is left over"),
    ],
)
def test_a_result_that_differs_is_noticed(finished, name, content, line):
    before = snapshot.snapshot(finished)
    if content is None:
        (finished / name).unlink()
    else:
        (finished / name).write_text(content)
    assert snapshot.differences(before, snapshot.snapshot(finished)) == [line]


@pytest.mark.parametrize(
    "name", [".results.json.0.7.partial", "synthesis/checkpoints/0/1/a", "teacher/.training-0/1"]
)
def test_unfinished_work_is_no_result_but_counted(finished, name):
    before = snapshot.snapshot(finished)
    (finished / name).parent.mkdir(parents=True, exist_ok=True)
    (finished / name).write_text("half")
    assert snapshot.snapshot(finished) == before
    assert snapshot.left_behind(finished) == [name]


def test_sigterm_ends_a_run_with_75_once_it_has_begun():
    term = faults.KINDS["term"]
    assert set(faults.endings(term, "synthesize")) == {75}
    assert set(faults.endings(term, STAGES[0])) == {75, -15}
    assert set(faults.endings(faults.KINDS["kill"], "select")) == {-9}


def test_a_signal_that_a_run_does_not_heed_is_a_hit_but_for_one_that_comes_too_late():
    term = faults.KINDS["term"]
    assert faults.is_hit(term, "synthesize", 0) and 0 not in faults.endings(term, "synthesize")
    assert not faults.is_hit(term, STAGES[-1], 0)
    assert faults.is_hit(term, STAGES[-1], 75)
    assert faults.is_hit(faults.KINDS["pipe"], STAGES[-1], 0)


HOLDS = """
import json, os, pathlib, sys, time
pathlib.Path(".lock").write_text(json.dumps({"process": os.getpid()}))
print("held", flush=True)
time.sleep(3)
"""


@pytest.mark.parametrize(
    ("code", "is_last", "is_problem"),
    [
        ("raise SystemExit(2)", False, False),
        (HOLDS, False, True),
        (f"import time; time.sleep(1){HOLDS}", True, False),  # the first has freed the lock
    ],
)
def test_a_second_run_beside_the_first_is_noticed(tmp_path, code, is_last, is_problem):
    class FakeStart:
        workdir = tmp_path

        def __init__(self, code):
            self.process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)

        @property
        def is_running(self):
            return self.process.poll() is None

        def has_begun(self, stage):
            return is_last and stage == "export"

        def wait(self, seconds):
            return self.process.wait(seconds)

        def again(self):
            return FakeStart(code)

    first = FakeStart(f"import time; time.sleep({2 if is_last else 60})")
    fault = faults.Fault(faults.KINDS["second"], first, random.Random(0))
    try:
        assert fault.inflict()
    finally:
        first.process.kill()
        first.process.wait()
    assert bool(fault.problem) is is_problem


def test_the_table_counts_and_a_loss_is_not_good():
    tally = Tally(hits=[Hit("kill", "select", -9, 0.1, 2.0, True)] * 2, runs=1, starts=3)
    tally.hits.append(Hit("term", "evaluate", 75, 1.25, 0.5, True))
    assert tally.is_good
    assert "3 faults, 3 of them SIGKILL or SIGTERM; 3 starts for 1 runs" in tally.table()
    assert tally.slowest_term() == 1.25
    assert tally.unsaved() == {"select": [2.0, 2.0]}
    tally.losses.append("run 1: results.json differs")
    assert not tally.is_good
    assert "losses: 1\n  run 1: results.json differs" in tally.table()
