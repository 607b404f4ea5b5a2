"""The launchers: they parse, and pass flags that there are."""

import os
import pathlib
import re
import subprocess

import pytest
from absl import flags

from configs import base, imagenet, sweeps
from delt_jax.sweep.planning import plan

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_and_can_be_run(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o100, "not executable"
    assert "set -euo pipefail" in script.read_text()


def test_the_task_of_skypilot_is_yaml_whose_scripts_are_bash():
    yaml = pytest.importorskip("yaml")
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "resources", "envs", "workdir", "setup", "run"}
    for name in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[name], text=True, check=True)
    for name in task["envs"]:  # each is used
        assert f"${name}" in task["setup"] + task["run"]


@pytest.mark.parametrize("path", [*SCRIPTS, LAUNCH / "skypilot.yaml"], ids=lambda path: path.name)
def test_the_flags_that_are_passed_exist(path):
    from delt_jax import main  # noqa: F401 (defines them)

    known = {"main": {*flags.FLAGS}, "sweep": {"sweep", "workdir", "config.evaluate.sets"}}
    known["sweep"] |= {f"config.{stage}.compute_dtype" for stage in ("synthesis", "evaluate")}
    # A command goes on behind a backslash.
    commands = re.findall(r"delt_jax\.(main|sweep)((?:\\\n|[^\n])*)", path.read_text())
    assert commands
    for program, command in commands:
        assert set(re.findall(r"--([a-z_.-]+)", command)) <= known[program]
    configs = re.findall(r"configs/(\w+)\.py:([^\s]+)", path.read_text())
    for name, argument in configs:
        if name == "sweeps":
            continue  # the next test
        assert name == "imagenet"
        assert imagenet.get_config(argument).keys() == base.get_base().keys()


@pytest.mark.parametrize(
    ("code", "restarts", "is_queued"),
    [(0, 0, False), (2, 0, False), (75, 0, True), (75, 10, False), (137, 0, True)],
)
def test_slurm_queues_again_what_was_ended_and_no_mistake(tmp_path, code, restarts, is_queued):
    for name, last in (("srun", f"exit {code}"), ("scontrol", "")):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho {name} "$@"\n{last}\n')
        path.chmod(0o755)
    variables = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    done = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sh"), "--workdir=runs/a b"],
        env={**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    step, *queued = done.stdout.splitlines()
    assert done.returncode == code
    assert step.endswith("-m delt_jax.main --hosts=auto --workdir=runs/a b")
    assert "--kill-on-bad-exit=0" in step, "tasks that are saving are ended"
    assert queued == is_queued * ["scontrol requeue 7"]


def test_the_paper_s_cifar10_is_ten_points_of_one_teacher():
    script = (LAUNCH / "paper_cifar10.sh").read_text()
    argument = re.search(r"^sweep=(.*)$", script, re.MULTILINE)[1].replace('"$DATA"', "data/c")
    steps = plan(sweeps.get_sweep(argument), pathlib.Path("runs"))
    assert [step.config.ipc for step in steps] == 5 * [10] + 5 * [50]
    assert {step.config.teacher.arch for step in steps} == {"resnet18_small"}
    numbers = [step.point.paper["teacher"].top1 for step in steps if step.config.method == "delt"]
    assert numbers == [43.0, 64.9]
