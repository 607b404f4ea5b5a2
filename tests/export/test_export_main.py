"""The command line of exports."""

import os
import pathlib
import subprocess
import sys

import pytest
from digits_set import write_digits

ROOT = pathlib.Path(__file__).parents[2]


def main(*arguments):
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "delt_jax.export", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)


def test_exports_then_verifies(tmp_path):
    write_digits(tmp_path / "distilled")
    out = tmp_path / "out"
    done = main(tmp_path / "distilled", out, "--format=npz,image_folder", "--naming=reference")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"npz  {out / 'npz'}  4 files, " in done.stdout
    assert 'ImageFolder("train")' in done.stdout
    assert (out / "image_folder" / "train" / "new000").is_dir()

    done = main("--verify", tmp_path / "distilled")
    assert (done.returncode, done.stdout) == (
        0,
        f"{tmp_path / 'distilled'}: all as it was written\n",
    )

    (out / "npz" / "distilled.npz").write_bytes(b"")
    (out / "npz" / "notes.txt").write_text("")
    done = main(f"--verify={out}")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        str(out / "image_folder"),
        str(out / "npz" / "distilled.npz"),
        str(out / "npz" / "notes.txt"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got none, expected SRC DST --format=NAME"),
        (["a", "b", "--format=zip"], "got 'zip', expected some of image_folder"),
        (["a", "b", "--format=npz", "--naming=no"], "export.naming: got 'no'"),
        (["a", "b", "--format=npz", "--quality=high"], "quality"),
        (["--verify=a"], "a: no SHA256SUMS in it"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    done = main(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
