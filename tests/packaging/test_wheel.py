"""The wheel: the package with its templates, and nothing of the clone."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

pytest.importorskip("hatchling")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # The build backend itself, so that nothing is fetched.
    code = "import sys, hatchling.build as b; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(path):
    """Name -> content."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_holds_the_package_and_nothing_else(wheel):
    inside = {name for name in wheel if not name.startswith("delt_jax-")}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "delt_jax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == tracked
    assert {pathlib.PurePosixPath(name).suffix for name in inside} == {
        ".py", ".jinja", ".css", ".js"
    }  # fmt: skip
    about = {name.partition("/")[2] for name in wheel if name.startswith("delt_jax-")}
    assert about == {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def test_its_readme_and_its_extras_are_told(wheel):
    (metadata,) = (data.decode() for name, data in wheel.items() if name.endswith("METADATA"))
    assert "Name: delt_jax" in metadata or "Name: delt-jax" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "Provides-Extra: cuda12" in metadata
    assert "# delt_jax" in metadata


def test_the_package_needs_no_file_of_the_clone(wheel):
    for name, data in wheel.items():
        if name.endswith(".py"):
            lines = data.decode().splitlines()
            imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
            assert not [line for line in imports if "configs" in line or "benchmarks" in line], name


def test_the_api_works_from_it_alone(path, tmp_path):
    """Unpacked, away from the clone; what it depends on comes from this environment."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import delt_jax; train, _ = delt_jax.load_data('digits', images_per_class=2); "
        "print(delt_jax.__file__, train, delt_jax.options('synthesize')['iterations'])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "site" / "delt_jax" / "__init__.py"
    assert done.stdout == f"{file} Images(digits: 20 images of 32 x 32, 10 classes) 4000\n"
