"""The command line of sweeps."""

import functools
import json
import os
import shlex

import pytest
from run_module import run_module

from delt_jax.runtime import lock

main = functools.partial(run_module, "delt_jax.sweep")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep=configs/sweeps.py:method"], "sweep: got 'method', expected methods"),
        (
            ["--sweep=configs/sweeps.py:methods,data=digits,methods=delt", "--config.ipd=3"],
            "error: ipd: no such option; is it ipc?",
        ),
        *(
            (
                ["--sweep=configs/sweeps.py:methods,data=digits", *words],
                "error: --config.method: each point has its method; expected it in --sweep",
            )
            for words in (["--config.method=rded"], ["-config.method", "rded"])
        ),
        (
            ["--sweep=configs/sweeps.py:methods,data=digits", "--config", "configs/digits.py"],
            "error: --config=configs/digits.py: each point has its config; expected --sweep",
        ),
        (
            ["--sweep=configs/sweeps.py:methods,data=digits", "--config.ipc=many"],
            "error: ipc: got 'many', expected a whole number",
        ),
        (
            ["--sweep=configs/sweeps.py:selection,data=digits", "--point=4"],
            "got 4, expected 1 to 3",
        ),
    ],
)
def test_a_mistake_ends_in_one_line_before_any_work(arguments, message, tmp_path):
    done = main(f"--workdir={tmp_path / 'sweep'}", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_a_dry_run_prints_commands(tmp_path):
    done = main(
        *("--sweep=configs/sweeps.py:selection,data=digits,ipc=5", "--config.evaluate.epochs=7"),
        *(f"--workdir={tmp_path / 'sweep'}", "--point=2", "--dry-run"),
    )
    first = tmp_path / "sweep" / "min"
    assert done.stdout == (
        "python -m delt_jax.main --config=configs/digits.py:ipc=5 --config.select.mode=medium "
        f"--config.evaluate.epochs=7 --config.teacher.weights={first}/teacher "
        f"--config.select.ranking={first}/ranking.csv --workdir={tmp_path / 'sweep' / 'medium'}\n"
    )
    assert not (tmp_path / "sweep").exists()


def test_options_reach_the_points_however_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "flags").write_text("--config.evaluate.students=('teacher', 'conv3')\n")
    done = main(
        *("--sweep", "configs/sweeps.py:methods,data=digits,methods=rded", "--workdir=~/sweep"),
        *("--config.ipc", "5", "-config.select.mode=min", "--noconfig.data.strict", "--dry-run"),
        f"--flagfile={tmp_path / 'flags'}",
    )
    assert shlex.split(done.stdout) == [
        *("python", "-m", "delt_jax.main", "--config=configs/digits.py:ipc=10,method=rded"),
        *("--config.evaluate.sets=('distilled',)", "--config.ipc=5", "--config.select.mode=min"),
        *("--config.data.strict=False", "--config.evaluate.students=('teacher', 'conv3')"),
        f"--workdir={tmp_path / 'sweep' / 'rded'}",
    ]


@pytest.mark.slow
def test_a_sweep_from_end_to_end(tmp_path):
    """Two points that run and one that cannot; then again."""
    sweep = tmp_path / "three.py"
    sweep.write_text(
        "from delt_jax.sweep.points import Point, Sweep\n"
        "def get_sweep(arg):\n"
        "    digits = 'configs/digits.py:smoke'\n"
        "    return Sweep('three', 'Three', (\n"
        "        Point('delt', digits), Point('wrong', digits, {'synthesis.flip': 2.0}),\n"
        "        Point('rded', digits + ',method=rded')))\n"
    )
    command = (f"--sweep={sweep}", f"--workdir={tmp_path / 'sweep'}", "--config.evaluate.epochs=1")
    done = main(*command)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: point wrong failed: error: synthesis.flip: got 2.0")
    collected = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    states = {point["name"]: point["state"] for point in collected["points"]}
    assert states == {"delt": "done", "wrong": "not done", "rded": "done"}
    assert [p["image_iterations"] for p in collected["points"]] == [120, None, 0]
    assert (tmp_path / "sweep" / "report.html").stat().st_size > 10_000
    again = main(*command)
    assert again.returncode == 1
    assert "point 1 of 3, delt: done before, kept" in again.stdout
    assert "point 3 of 3, rded: done before, kept" in again.stdout
    (tmp_path / "sweep" / "table.md").unlink()
    assert main(*command, "--collect").returncode == 0
    assert "| wrong (not done) |" in (tmp_path / "sweep" / "table.md").read_text()


def test_a_second_sweep_in_the_same_folder_is_refused_and_a_point_alone_is_not(tmp_path):
    sweep = "--sweep=configs/sweeps.py:selection,data=digits"
    with lock.held(tmp_path):
        done = main(sweep, f"--workdir={tmp_path}")
        assert done.returncode == 2
        assert f"process {os.getpid()} of host" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        # Point 2 waits for the teacher of point 1, so it gets as far as that.
        done = main(sweep, f"--workdir={tmp_path}", "--point=2")
        assert done.returncode == 1
        assert "needs the teacher of point 1" in done.stderr
