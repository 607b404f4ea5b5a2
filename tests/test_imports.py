"""Every module of the package imports by itself, and core imports none of the rooms above it."""

import ast
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "delt_jax"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__main__" and "torch" not in path.relative_to(PACKAGE).parts[:1]
)


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name):
    importlib.import_module(name)


def imported(path):
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_core_imports_no_other_room():
    allowed = ("delt_jax.core", "delt_jax.target", "delt_jax.errors")
    for path in (PACKAGE / "core").rglob("*.py"):
        for name in imported(path):
            if name.startswith("delt_jax."):
                assert name.startswith(allowed), f"{path.name} imports {name}"
