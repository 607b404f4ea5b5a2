"""Writes are whole or not there; broken files are named."""

import pytest

from delt_jax.errors import InputError
from delt_jax.runtime.workdir import WorkDir


def test_json_comes_back_and_nothing_else_is_left(tmp_path):
    workdir = WorkDir(tmp_path)
    workdir.write_json(tmp_path / "a" / "b.json", {"ü": [1, 2]})
    assert workdir.read_json(tmp_path / "a" / "b.json") == {"ü": [1, 2]}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    workdir, path = WorkDir(tmp_path), tmp_path / "x.json"
    workdir.write_json(path, 1)
    with pytest.raises(TypeError):
        workdir.write_bytes(path, "no bytes")  # pyright: ignore[reportArgumentType]
    assert workdir.read_json(path) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: not there"):
        WorkDir(tmp_path).read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"half\.json: not valid JSON"):
        WorkDir(tmp_path).read_json(tmp_path / "half.json")


def test_a_work_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        WorkDir(tmp_path / "file").create()
