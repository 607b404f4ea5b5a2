"""No file holds NaN or Infinity, which browsers, jq and strict parsers refuse."""

import pathlib
import re

import numpy as np
import pytest

import delt_jax
from delt_jax.runtime import strict_json
from delt_jax.runtime.metrics import MetricsLog
from delt_jax.runtime.workdir import WorkDir


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("inf"), "null"),
        (float("-inf"), "null"),
        (float("nan"), "null"),
        (1.5, "1.5"),
        (np.float32(np.inf), "null"),
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (np.array([1.0, np.inf, np.nan]), "[1.0, null, null]"),
        ({"a": [(1, float("inf"))]}, '{"a": [[1, null]]}'),
        ("NaN", '"NaN"'),
        (True, "true"),
        (None, "null"),
    ],
)
def test_what_is_not_finite_is_null(value, text):
    assert strict_json.dumps(value) == text


def test_files_of_a_run_are_strict(tmp_path):
    workdir = WorkDir(tmp_path)
    workdir.write_json(tmp_path / "a.json", {"loss": [1.0, np.inf]})
    MetricsLog(tmp_path / "m.jsonl").write("squeeze", losses=[float("nan"), 2.0], top1=np.inf)
    assert workdir.read_json(tmp_path / "a.json") == {"loss": [1.0, None]}
    for file in ("a.json", "m.jsonl"):
        assert not re.search("NaN|Infinity", (tmp_path / file).read_text())


def test_one_module_alone_writes_json():
    package = pathlib.Path(delt_jax.__file__).parent
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"\bjson\.dumps?\(", path.read_text(encoding="utf-8").replace("strict_json", "")
        )
    }
    assert writers == {"runtime/strict_json.py"}
