"""Nothing that the package reads can run code: what could is not called, or is told not to."""

import ast
import collections
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "delt_jax"
# What these hold is called by its whole name, where it is found below; `pickle` is imported to name
# its error.
MODULES = ("pickle", "marshal", "shelve", "yaml", "joblib", "dill", "cloudpickle")
READERS = {
    *((module, name) for module in MODULES for name in ("load", "loads", "open", "Unpickler")),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("shutil", "unpack_archive"),
    ("os", "system"),
    ("os", "popen"),
}
METHODS = ("extractall", "extract", "read_pickle")  # of tar and zip archives, of pandas
BUILTINS = ("eval", "exec", "compile", "__import__")
# What a process has written into a nameless file for the workers that it starts.
OWN = {("data/workers.py", "pickle.loads"): 1}
TOLD = {
    ("np", "load"): ("allow_pickle", False),
    ("numpy", "load"): ("allow_pickle", False),
    ("torch", "load"): ("weights_only", True),
}


def wrong(node):
    """What is wrong with a call or an import; "" for nothing."""
    if isinstance(node, ast.ImportFrom):
        held = {name for module, name in (*READERS, *TOLD) if module == node.module}
        taken = {alias.name for alias in node.names}
        refused = node.module in MODULES or (held and taken & {*held, "*"})
        return f"from {node.module} import" if refused else ""
    if isinstance(node, ast.Import):
        modules = {module for module, _ in (*READERS, *TOLD)}
        renamed = {alias.name: alias.asname for alias in node.names if alias.asname}
        others = renamed.keys() & modules if renamed != {"numpy": "np"} else ()
        return next((f"import {name} as" for name in others), "")
    if not isinstance(node, ast.Call):
        return ""
    keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
    if keywords.get("shell"):
        return "a shell"
    if isinstance(node.func, ast.Name):
        return node.func.id if node.func.id in BUILTINS else ""
    if not isinstance(node.func, ast.Attribute):
        return ""
    base = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    name = (base, node.func.attr)
    if name in READERS or node.func.attr in METHODS:
        return ".".join(name)
    option, value = TOLD.get(name, ("", None))
    return f"{'.'.join(name)} without {option}={value}" if keywords.get(option) != value else ""


def test_nothing_in_the_package_can_run_code_from_a_file():
    found, nodes = collections.Counter(), 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            nodes += 1
            if what := wrong(node):
                found[path.relative_to(PACKAGE).as_posix(), what] += 1
    assert nodes > 10_000  # it has looked
    assert found == OWN


@pytest.mark.parametrize(
    "line",
    [
        *("pickle.load(file)", "np.load(path)", "torch.load(path)", "eval(text)", "yaml.load(t)"),
        *("np.load(path, allow_pickle=True)", "archive.extractall()", "subprocess.run(x, shell=1)"),
        *("from pickle import loads", "from numpy import load", "from torch import load, save"),
        *("numpy.load(path)", "pd.read_pickle(path)", "joblib.load(path)", "import pickle as p"),
        *(
            "from os import system",
            "from yaml import *",
            "import torch as t",
            "from numpy import *",
        ),
    ],
)
def test_it_would_be_found(line):
    assert any(wrong(node) for node in ast.walk(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "import numpy as np", "from numpy import ndarray", "json.load(file)"),
        *("np.load(path, allow_pickle=False)", "from os import path", "safe_open(path)"),
    ],
)
def test_what_is_harmless_is_not(line):
    assert not any(wrong(node) for node in ast.walk(ast.parse(line)))
