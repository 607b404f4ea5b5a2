"""Nothing that the package reads can run code: what could is not called, or is told not to."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "delt_jax"
# Of these modules nothing that reads may be called; `pickle` is imported to name its error.
READERS = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("pickle", "Unpickler"),
    ("marshal", "load"),
    ("marshal", "loads"),
    ("shelve", "open"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("shutil", "unpack_archive"),
    ("os", "system"),
    ("os", "popen"),
}
METHODS = ("extractall", "extract")  # of tar and zip archives
BUILTINS = ("eval", "exec", "compile", "__import__")
# What a process has written into a nameless file for the workers that it starts.
OWN = {("data/workers.py", "pickle.loads")}
TOLD = {("np", "load"): ("allow_pickle", False), ("torch", "load"): ("weights_only", True)}


def calls():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield pytest.param(node, id=f"{path.relative_to(PACKAGE)}:{node.lineno}")


def wrong(node):
    """What is wrong with a call; "" for nothing."""
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


def test_no_call_of_the_package_can_run_code_from_a_file():
    found = {case.id: wrong(case.values[0]) for case in calls()}
    assert len(found) > 1000  # it has looked
    assert {(place.partition(":")[0], what) for place, what in found.items() if what} == OWN


@pytest.mark.parametrize(
    "line",
    [
        *("pickle.load(file)", "np.load(path)", "torch.load(path)", "eval(text)", "yaml.load(t)"),
        *("np.load(path, allow_pickle=True)", "archive.extractall()", "subprocess.run(x, shell=1)"),
    ],
)
def test_it_would_be_found(line):
    (call,) = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call))
    assert wrong(call)
