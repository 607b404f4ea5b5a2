"""The command line: mistakes end in one line."""

import functools

import pytest
from run_module import run_module

main = functools.partial(run_module, "delt_jax.main")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py:ipx=3"], "got 'ipx', expected ipc"),
        (
            ["--config=configs/digits.py", "--config.synthesis.round_iterations=7"],
            "round_iterations: got 7, which does not divide iterations",
        ),
        (["--config=configs/digits.py", "--stages=selct"], "stages: got 'selct'"),
        (
            ["--config=configs/cifar10.py:source=/no/such/folder"],
            "source '/no/such/folder': no such file or folder",
        ),
        (["--config=configs/imagenet.py"], "imagenet2012"),
        (["--config=configs/digits.py", "extra"], "got 'extra'"),
        (["--config=configs/digit.py"], "cannot be read; expected configs/*.py (did you mean"),
        (["--config=configs/digits.py", "--config.sinthesis.jitter=1"], "is it synthesis.jitter?"),
        (
            ["--config=configs/digits.py", "--config.ipc=many"],
            "ipc: got 'many', expected a whole number",
        ),
        (["--config=configs/digits.py", "--config.method=dlt"], "method: got 'dlt', expected delt"),
        (
            [
                "--config=configs/digits.py",
                "--config.method=sre2l",
                "--config.synthesis.iterations=0",
            ],
            "synthesis.initial 'noise' with synthesis.iterations 0",
        ),
        ([], "config"),
    ],
)
def test_a_mistake_ends_in_one_line_before_any_work(arguments, message, tmp_path):
    done = main(f"--workdir={tmp_path / 'run'}", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_says_what_it_would_cost_and_leaves_nothing(tmp_path):
    folder = tmp_path / "run"
    # Without the synthesis, which would be timed.
    words = ("--config=configs/digits.py", "--config.select.mode=top", f"--workdir={folder}")
    done = main(*words, "--stages=select", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "1,500 images ranked" in done.stdout
    assert "  method      delt (select.mode=top)\n" in done.stdout
    assert not folder.exists()


def test_help_names_the_config_flag_and_needs_nothing_else():
    done = main("--help")
    assert "  --config: A file of configs/" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_home_in_the_workdir_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    done = main("--config=configs/digits.py", "--workdir=~/run", "--stages=report")
    assert f"in {tmp_path / 'home' / 'run'}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = main("--config=configs/digits.py", "--workdir=~nobody-of-that-name/run")
    assert done.stderr == (
        "error: path '~nobody-of-that-name/run': there is no such user; expected one's home\n"
    )
