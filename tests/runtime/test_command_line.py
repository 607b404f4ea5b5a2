"""Words of a command line that are wrong, and the line that each is answered with."""

import pathlib

import numpy as np
import pytest

from delt_jax.errors import InputError
from delt_jax.runtime.command_line import read_config, resolve_config

ROOT = pathlib.Path(__file__).parents[2]
DIGITS = "--config=configs/digits.py"
METHODS = ("delt", "early_only", "cda", "sre2l", "rded", "selected", "random")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [DIGITS, "--config.synthesis.iteratons=5"],
            "synthesis.iteratons: no such option; is it synthesis.iterations?",
        ),
        (
            [DIGITS, "--config.sinthesis.jitter=1"],
            "sinthesis.jitter: no such option; is it synthesis.jitter?",
        ),
        ([DIGITS, "--config.qqq=1"], "qqq: no such option; expected one of the defaults"),
        ([DIGITS, "--config.ipc=many"], "ipc: got 'many', expected a whole number"),
        ([DIGITS, "--config.ipc=2.5"], "ipc: got '2.5', expected a whole number"),
        ([DIGITS, "--config.synthesis.flip=x"], "synthesis.flip: got 'x', expected a number"),
        (
            [DIGITS, "--config.synthesis.sliced=maybe"],
            "synthesis.sliced: got 'maybe', expected true or false",
        ),
        (
            [DIGITS, "--config.synthesis=3"],
            "synthesis: got '3', expected a value for one of its options: "
            "--config.synthesis.NAME=VALUE",
        ),
        ([DIGITS, "--nothing"], "Unknown command line flag 'nothing'"),
        (
            [DIGITS, "--noconfig.synthesis.sliced=1"],
            "command line: --noconfig.synthesis.sliced=1 does not take an argument",
        ),
        (
            [DIGITS, "--config.seed[0]=1"],
            "command line: <class 'int'> does not support integer indexing [0]]. Attempting to "
            "lookup: seed[0]",
        ),
        *(
            ([*file, *words], "method: got 'nonesuch', expected " + " or ".join(METHODS))
            for file in ([DIGITS], ["--config", "configs/digits.py"])
            for words in (
                ["--config.method=nonesuch"],
                ["--config.method", "nonesuch"],
                ["-config.method=nonesuch"],
                ["-config.method", "nonesuch"],
            )
        ),
        ([DIGITS + ":method=rdde", "--config.method=rded"], "method: got 'rdde', expected rded"),
        ([DIGITS, "--config.method=RDED"], "method: got 'RDED', expected " + " or ".join(METHODS)),
        ([DIGITS, "--config.method="], "method: got '', expected " + " or ".join(METHODS)),
        (
            [DIGITS, "--config.method_changes=('select.mode=top',)"],
            "method_changes: filled in here; expected the options themselves",
        ),
        (
            [DIGITS, "--", "--config.method=rded"],
            "arguments: got '--config.method=rded', expected --config=... and --config.a.b=...",
        ),
        ([], "--config: got none, expected --config=FILE, such as configs/digits.py"),
        (["--config"], "--config: got none, expected --config=FILE, such as configs/digits.py"),
        (["--config=configs/cifar10.py:icp=10"], "config argument: got 'icp', expected ipc"),
        (["--config=configs/cifar10.py:ipc=ten"], "config argument ipc: got 'ten', expected int"),
        *(
            (
                words,
                "--config: got 'configs/cifar1.py', which cannot be read; expected configs/*.py "
                "(did you mean configs/cifar10.py?)",
            )
            for words in (
                ["--config=configs/cifar1.py:ipc=10"],
                ["--config", "configs/cifar1.py:ipc=10"],
                ["-config=configs/cifar1.py"],
                ["-config", "configs/cifar1.py"],
            )
        ),
    ],
)
def test_a_mistake_is_answered_with_what_is_expected(words, message):
    with pytest.raises(InputError) as caught:
        resolve_config(words)
    assert str(caught.value) == message


RDED = (
    [DIGITS, "--config.method=rded"],
    ["--config", "configs/digits.py", "--config.method=rded"],
    ["-config=configs/digits.py", "-config.method=rded"],
    ["-config", "configs/digits.py", "-config.method", "rded"],
    ["--config.method", "rded", DIGITS],
    ["--config=configs/digits.py:method=rded"],
    ["--config", "configs/digits.py:method=rded"],
    ["--config=configs/digits.py:method=cda", "--config.method=rded"],
    ["--config=configs/digits.py:ipc=5,method=rded", "--config.ipc=10"],
    [DIGITS, "--config.method=cda", "--config.method", "rded"],
    ["--config=configs/cifar10.py", "--config.method=cda", DIGITS, "--config.method=rded"],
)


@pytest.mark.parametrize("words", RDED)
def test_a_method_has_its_settings_however_it_is_written(words):
    c = resolve_config(words)
    assert (c.method, c.method_changes) == ("rded", ())
    assert (c.ipc, c.select.mode, c.select.crops, c.select.images_per_class) == (10, "top", 5, 300)
    assert (c.synthesis.iterations, c.synthesis.early_late) == (0, False)
    assert c.evaluate.sets == ("distilled", "random")
    assert c.evaluate.epochs == 20  # of digits.py


def test_flag_files_are_read(tmp_path):
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("# a comment\n--config.method=sre2l\n")
    outer.write_text(
        f"-config.synthesis.jitter=7\n--flagfile={inner}\n--config=configs/digits.py\n"
    )
    for words in ([f"--flagfile={outer}"], ["--flagfile", str(outer)]):
        c = resolve_config(words)
        assert (c.method, c.synthesis.initial, c.synthesis.jitter) == ("sre2l", "noise", 7)
    with pytest.raises(InputError, match=r"command line: .*nowhere"):
        resolve_config([f"--flagfile={tmp_path / 'nowhere'}"])


@pytest.mark.parametrize(
    "words",
    [
        ["--config.method=rded", "--config.select.mode=medium"],
        ["--config.select.mode=medium", "--config.method=rded"],
        ["-config.select.mode", "medium", "-config.method", "rded"],
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_an_option_that_is_given_wins_over_the_method(words, before):
    c = resolve_config([DIGITS, *words] if before else [*words, DIGITS])
    assert (c.method, c.select.mode, c.select.crops) == ("rded", "medium", 5)
    assert c.method_changes == ("select.mode=medium",)


def test_what_is_changed_of_a_method_is_said_and_nothing_else():
    words = [DIGITS, "--config.method=sre2l", "--config.synthesis.jitter=4", "--config.seed=3"]
    words += ["--config.synthesis.log_every=5", "--config.select.batch_size=9"]
    assert resolve_config(words).method_changes == ()  # its own jitter, and what makes no image
    words += ["--noconfig.synthesis.departed_drift", "--config.synthesis.beta1", "0.9"]
    c = resolve_config(words)
    assert c.method_changes == ("synthesis.beta1=0.9", "synthesis.departed_drift=False")
    assert (c.seed, c.synthesis.beta1, c.synthesis.departed_drift) == (3, 0.9, False)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet", "imagenette", "tiny_imagenet"])
@pytest.mark.parametrize("method", ["delt", "cda", "rded"])
def test_an_ipc_is_the_same_as_argument_and_as_option(name, method):
    file = f"--config=configs/{name}.py"
    for ipc in (1, 100):
        argument = resolve_config([f"{file}:ipc={ipc},method={method}"])
        for other in (
            [file, f"--config.method={method}", f"--config.ipc={ipc}"],
            [f"{file}:ipc={101 - ipc},method={method}", f"--config.ipc={ipc}"],
        ):
            assert resolve_config(other).to_dict() == argument.to_dict()
    assert argument.method_changes == ()


def test_settings_that_follow_from_others_see_their_last_values():
    c = resolve_config(["--config=configs/cifar10.py", "--config.ipc=1"])
    assert (c.ipc, c.synthesis.early_late, c.synthesis.iterations) == (1, False, 2000)
    c = resolve_config(["--config=configs/cifar10.py:ipc=1", "--config.ipc=10"])
    assert (c.ipc, c.synthesis.early_late, c.synthesis.iterations) == (10, True, 4000)
    nette = "--config=configs/imagenette.py:method={}"
    small = "--config.data.image_size=64"
    assert resolve_config([nette.format("sre2l")]).synthesis.jitter == 32
    assert resolve_config([nette.format("sre2l"), small]).synthesis.jitter == 4
    assert resolve_config([nette.format("rded"), small]).select.factor == 1
    c = resolve_config([nette.format("rded"), "--config.ipc=100"])
    assert (c.select.factor, c.select.images_per_class) == (2, 400)
    c = resolve_config([nette.format("rded"), "--config.ipc=100", "--config.select.factor=3"])
    assert (c.select.factor, c.select.images_per_class) == (3, 900)
    c = resolve_config([nette.format("sre2l"), "--config.data.name=tiny-imagenet"])
    assert (c.synthesis.learning_rate, c.synthesis.jitter) == (0.1, 4)
    c = resolve_config(["--config=configs/cifar10.py", "--config.teacher.arch=conv3"])
    assert (c.teacher.squeeze.epochs, c.teacher.squeeze.learning_rate) == (100, 0.01)


def test_a_source_of_one_s_own_is_given_either_way(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    arrays = {f"x_{split}": np.full((4, 32, 32, 3), 9, np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(4) % 2 for split in ("train", "test")}
    names = ("birds, 2024.npz", "a,b,ipc=3.npz", "it's.npz")
    for name in names:
        path = tmp_path / name
        np.savez(path, **arrays)
        escaped = str(path).replace(",", "\\,")
        for words in (
            [f'--config=configs/custom.py:source="{path}", ipc=2'],
            [f"--config=configs/custom.py: ipc = 2,source={escaped}"],
            ["--config=configs/custom.py", f"--config.data.source={path}", "--config.ipc=2"],
            ["--config=configs/custom.py:ipc=2", "--config.data.source", f"~/{name}"],
        ):
            c = resolve_config(words)
            assert c.data.source in (str(path), f"~/{name}")
            assert (c.ipc, c.data.image_size, c.teacher.arch) == (2, 32, "resnet18_small")
    with pytest.raises(InputError, match=r"got '2024', .*; for a comma within source write \\,"):
        resolve_config([f"--config=configs/custom.py:source={tmp_path}/birds,2024"])


def test_files_of_one_s_own_need_know_nothing_of_options(tmp_path):
    around = tmp_path / "around.py"
    around.write_text(
        "from configs import digits\n"
        "def get_config():\n"
        "    c = digits.get_config('ipc=3')\n"
        "    c.evaluate.epochs = 7\n"
        "    return c\n"
    )
    c = resolve_config([f"--config={around}", "--config.method=rded"])
    assert (c.method, c.ipc, c.select.mode, c.evaluate.epochs) == ("rded", 3, "top", 7)
    c = read_config(str(around), {"method": "rded", "select.crops": 9, "evaluate.epochs": 8})
    assert (c.select.crops, c.evaluate.epochs, c.method_changes) == (9, 8, ("select.crops=9",))
    plain = tmp_path / "plain.py"
    plain.write_text(
        "from configs import base\n"
        "def get_config():\n"
        "    c = base.get_base()\n"
        "    c.data.name = 'digits'\n"
        "    return c\n"
    )
    c = resolve_config([f"--config={plain}", "--config.synthesis.early_late=false"])
    assert (c.method, c.method_changes) == ("delt", ("synthesis.early_late=False",))
    with pytest.raises(InputError, match=r"method: got 'rded', and .*plain\.py applies 'delt'"):
        resolve_config([f"--config={plain}", "--config.method=rded"])
    for text, problem in (
        ("x = 1\n", "KeyError: 'get_config'"),
        ("def get_config(:\n", "SyntaxError: "),
        ("def get_config():\n    return 3\n", "returns int; expected a ConfigDict that begins as"),
        ("import nosuchmodule\n", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ):
        plain.write_text(text)
        with pytest.raises(InputError, match=problem):
            resolve_config([f"--config={plain}"])
